"""One small example of every layer class that the format table tries: how it is built, and its input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Example = Callable[[], tuple[nn.Module, Any]]
"""Makes a layer and what its forward is given."""

EXAMPLES: dict[str, Example] = {
    "nn.Linear": lambda: (nn.Linear(128, 8), torch.randn(4, 128)),
    "nn.Conv1d": lambda: (nn.Conv1d(32, 8, 4), torch.randn(2, 32, 6)),
    "nn.Conv2d": lambda: (nn.Conv2d(32, 8, 2), torch.randn(2, 32, 4, 4)),
    "nn.Conv3d": lambda: (nn.Conv3d(16, 8, 2), torch.randn(2, 16, 3, 3, 3)),
    "nn.ConvTranspose1d": lambda: (nn.ConvTranspose1d(32, 8, 4), torch.randn(2, 32, 6)),
    "nn.ConvTranspose2d": lambda: (nn.ConvTranspose2d(32, 8, 2), torch.randn(2, 32, 4, 4)),
    "nn.ConvTranspose3d": lambda: (nn.ConvTranspose3d(16, 8, 2), torch.randn(2, 16, 3, 3, 3)),
    "nn.RNN": lambda: (nn.RNN(128, 128), torch.randn(3, 2, 128)),
    "nn.GRU": lambda: (nn.GRU(128, 128), torch.randn(3, 2, 128)),
    "nn.LSTM": lambda: (nn.LSTM(128, 128), torch.randn(3, 2, 128)),
    "nn.RNNCell": lambda: (nn.RNNCell(128, 128), torch.randn(2, 128)),
    "nn.GRUCell": lambda: (nn.GRUCell(128, 128), torch.randn(2, 128)),
    "nn.LSTMCell": lambda: (nn.LSTMCell(128, 128), torch.randn(2, 128)),
    "nn.Embedding": lambda: (nn.Embedding(16, 128), torch.arange(6).view(2, 3)),
}

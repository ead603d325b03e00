"""One step of each kind of recurrence, with the product of the hidden state in the open."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class StepWeights:
    """The weights of one layer in one direction, quantized where they are to be; weight_hr projects an LSTM's h."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    weight_hr: Tensor | None = None


def step(
    mode: str, from_input: Tensor, h: Tensor, c: Tensor | None, weights: StepWeights, quantize_h: nn.Module
) -> tuple[Tensor, Tensor | None]:
    """The next hidden and cell state.

    Args:
        mode: LSTM, GRU, RNN_TANH or RNN_RELU, as in torch.nn.RNNBase.
        from_input: [batch, gates · hidden], the product of the input with weight_ih, bias added.
        h: [batch, hidden or projected size]; only its product with weight_hh takes the quantized state.
        c: [batch, hidden], LSTM only.
    """
    from_state = F.linear(quantize_h(h), weights.weight_hh, weights.bias_hh)
    if mode == "LSTM":
        assert c is not None
        i, f, g, o = (from_input + from_state).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return (h if weights.weight_hr is None else F.linear(h, weights.weight_hr)), c
    if mode == "GRU":
        (r_x, z_x, n_x), (r_h, z_h, n_h) = from_input.chunk(3, dim=1), from_state.chunk(3, dim=1)
        r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
        n = torch.tanh(n_x + r * n_h)
        return n + z * (h - n), None
    activation = torch.tanh if mode == "RNN_TANH" else torch.relu
    return activation(from_input + from_state), None

"""A model library: `template:WIDTH` is a model, `template-noise` its calibration data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mtcore.errors import ModelError
from mtcore.flow import DataOptions, LoadedModel
from mtcore.trace import TraceInputs

SCHEME, NOISE = "template:", "template-noise"


class Model(nn.Module):
    """Two linear layers, [tokens, width] → [tokens, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(torch.relu(self.up(x)))
        return y


def load(source: str) -> LoadedModel | None:
    """The model of a width; None, quickly, for a source of somebody else.

    Raises:
        ModelError: the width is no number.
    """
    if not source.startswith(SCHEME):
        return None
    width = source.removeprefix(SCHEME)
    if not width.isdecimal() or not int(width):
        raise ModelError(f"{source}: write a width, such as {SCHEME}64")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LoadedModel(Model(int(width)).eval(), source)


def example_inputs(model: nn.Module) -> TraceInputs | None:
    """One small forward."""
    return TraceInputs((torch.zeros(2, model.up.in_features),)) if isinstance(model, Model) else None


def batches(source: str, loaded: LoadedModel, options: DataOptions) -> list[dict[str, Any]] | None:
    """Seeded noise."""
    if source != NOISE or not isinstance(loaded.model, Model):
        return None
    generator = torch.Generator().manual_seed(options.seed or 0)
    width = loaded.model.up.in_features
    return [
        {"x": torch.randn(options.batch_size, width, generator=generator)}
        for _ in range(0, options.samples, options.batch_size)
    ]

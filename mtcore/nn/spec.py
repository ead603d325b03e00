"""The record that says how a module class is quantized."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class WeightSlot:
    """A parameter that can be quantized: the axis of its output channels becomes the rows of its matrix."""

    parameter: str = "weight"
    channel_axis: int = 0


@dataclass(frozen=True)
class QuantModuleSpec:
    """One module class and its quantized form.

    Attributes:
        name: key in the registry, which rules may name as the module type: "nn.Linear".
        original: the class that is replaced. It matches the exact type, or a subclass that did not override
            `forward`.
        quantized: a subclass of both QuantModule and `original`, which shares the original's parameters.
        weights: its parameters that can be quantized.
        activations: its other slots, among input, output, q, k, v.
    """

    name: str
    original: type[nn.Module]
    quantized: type[nn.Module]
    weights: tuple[WeightSlot, ...] = (WeightSlot(),)
    activations: tuple[str, ...] = ("input", "output")

"""The record that says how a module class is quantized."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

from torch import nn

from mtcore.nn.views import ChannelView, TokenView


@dataclass(frozen=True)
class WeightSlot:
    """A parameter that can be quantized: the axis of its output channels becomes the rows of its matrix.

    Attributes:
        parameter: its name, or a glob on names where their number differs from module to module ("weight_*").
        channel_axis: see above.
        grouped: its channels are those of `module.groups` groups side by side (transposed convolutions).
        stacked: it holds one matrix an expert along axis 0, each with scales of its own.
    """

    parameter: str = "weight"
    channel_axis: int = 0
    grouped: bool = False
    stacked: bool = False

    def view(self, module: nn.Module) -> ChannelView:
        """How the parameter of this module is seen as a matrix."""
        return ChannelView(self.channel_axis, int(module.groups) if self.grouped else 1)  # type: ignore[arg-type]

    def cols(self, shape: tuple[int, ...], groups: int = 1) -> int:
        """Columns of the matrix (of one expert) of a parameter of this shape."""
        if self.stacked:
            return shape[3 - self.channel_axis]
        cols = 1
        for axis, size in enumerate(shape):
            cols *= 1 if axis == self.channel_axis else size
        return cols // groups if self.grouped else cols


@dataclass(frozen=True)
class QuantModuleSpec:
    """One module class and its quantized form.

    Attributes:
        name: key in the registry, which rules may name as the module type: "nn.Linear".
        original: the class that is replaced. It matches the exact type, or a subclass that did not override
            `forward`.
        quantized: a subclass of both QuantModule and `original`, which shares the original's parameters.
        weights: its parameters that can be quantized.
        activations: its other slots, among input, output, q, k, v, softmax; or such a name behind a word of its own
            where there are several of a kind ("left_input").
        feature_axis: the axis of its activations on which the features lie.
        by_name_only: whether a rule must name the type or the module to reach it; a rule for all modules does not.
            So it is for layers that few runtimes store or compute in fewer bits: norms, pools, embeddings.
        children: child modules whose parameters `forward` reads without calling them. Their original classes may
            not know it, so they are quantized only together with this module.
        found_by: "type" as said under `original`; or the fact of the trace by which modules of any class are found:
            that they compute attention, or hold stacked expert weights. `original` is nn.Module then.
        low_rank: its quantized form with a low-rank branch, a subclass of `quantized`; None where it has none.
    """

    name: str
    original: type[nn.Module]
    quantized: type[nn.Module]
    weights: tuple[WeightSlot, ...] = (WeightSlot(),)
    activations: tuple[str, ...] = ("input", "output")
    feature_axis: int = -1
    by_name_only: bool = False
    children: tuple[str, ...] = ()
    found_by: Literal["type", "attention", "stacked"] = "type"
    low_rank: type[nn.Module] | None = None

    @property
    def activation_view(self) -> TokenView:
        """How its activations are seen as matrices."""
        return TokenView(self.feature_axis)

    def weights_of(
        self, parameters: Iterable[str], facts: Mapping[str, tuple[int, ...]] | None = None
    ) -> tuple[WeightSlot, ...]:
        """The weights of a module that has parameters of these names: globs are spelt out.

        `facts` are what the trace found about the module (see `ModulePlan.facts`).

        Example:
            >>> spec = QuantModuleSpec("nn.RNN", nn.RNN, nn.RNN, weights=(WeightSlot("weight_*"),))
            >>> [slot.parameter for slot in spec.weights_of(["weight_ih_l0", "bias_ih_l0", "weight_hh_l0"])]
            ['weight_ih_l0', 'weight_hh_l0']
        """
        if self.found_by == "stacked":
            return tuple(WeightSlot(name, axis, stacked=True) for name, (axis,) in (facts or {}).items())
        names = tuple(parameters)
        return tuple(
            replace(slot, parameter=name)
            for slot in self.weights
            for name in names
            if fnmatchcase(name, slot.parameter)
        )

    def activations_of(self, facts: Mapping[str, tuple[int, ...]] | None = None) -> tuple[str, ...]:
        """The other slots of a module about which the trace found these facts."""
        if self.found_by == "stacked":
            return tuple(input_slot(name) for name in facts or {})
        return self.activations


def input_slot(parameter: str) -> str:
    """The slot of what is multiplied with a stacked weight.

    Example:
        >>> input_slot("down_proj")
        'down_proj_input'
    """
    return f"{parameter}_input"

"""ExpertsQuantModule: any module whose parameters stack one matrix an expert."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mtcore.nn.derived import DerivedQuantModule
from mtcore.nn.expert_rows import ExpertRows, counted
from mtcore.nn.quant_module import QuantModule, is_idle
from mtcore.nn.spec import QuantModuleSpec, input_slot
from mtcore.trace.products import Operand, Origin, Origins, operands, with_operand

EXPERT_ROWS = "expert_rows"

ExpertObserver = Callable[[str, int, Tensor], None]
"""Is shown a stacked weight's name, an expert's number and what is multiplied with its matrix, [n, cols]."""


class ExpertsQuantModule(DerivedQuantModule):
    """Slots: every stacked weight, with scales for each expert, and the input of the products with it.

    While the original's forward runs, the attribute of a stacked weight gives its fake-quantized values, and what
    is multiplied with them, with a slice or a gathered copy of them, is quantized too: whichever way the experts
    are computed (a loop over experts, a batched product, a grouped product).

    Attributes:
        expert_rows: is called with how many rows each expert was given in a forward, fp32 [1, experts], where
            somebody has put a hook on it.
        observer: while set, is shown the factors of every expert's products, as they are multiplied: rounded where
            they are.
    """

    expert_rows: nn.Module
    observer: ExpertObserver | None = None

    @classmethod
    def from_original(cls, original: nn.Module, quantizers: Mapping[str, nn.Module]) -> QuantModule:
        """As QuantModule.from_original."""
        twin = super().from_original(original, quantizers)
        twin.add_module(EXPERT_ROWS, nn.Identity())
        return twin

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        watched = bool(self.expert_rows._forward_hooks) and counted()
        if self.idle and not watched and self.observer is None:
            return super().forward(*args, **kwargs)
        weights = {slot: self._weight(slot) for slot in self.slots if slot in self._parameters}
        self.__dict__.update(weights)  # found before the parameters, which stay where they are
        try:
            followed = weights if self.observer is not None else list(weights)[:1] if watched else ()
            rows = {name: ExpertRows(weights[name]) for name in followed}
            with _Interposed(self, weights, rows, watched):
                out = super().forward(*args, **kwargs)
        finally:
            for name in weights:
                del self.__dict__[name]
        counts = next(iter(rows.values()), None)
        if watched and counts is not None and counts.known:
            self.expert_rows(counts.counts.float()[None])
        return out

    def _weight(self, slot: str) -> Tensor:
        quantizer, parameter = self.get_submodule(self.slots[slot]), self._parameters[slot]
        assert parameter is not None
        if is_idle(quantizer):
            return parameter
        rounded: Tensor = quantizer(parameter)
        return rounded


class _Interposed(TorchFunctionMode):
    """Quantizes the other factor of every product with a stacked weight, and shows it to the layer's observer.

    `rows`: of the weights whose experts are told apart; those of the first weight are counted where `counting`.
    """

    def __init__(
        self, layer: ExpertsQuantModule, weights: dict[str, Tensor], rows: dict[str, ExpertRows], counting: bool
    ) -> None:
        super().__init__()
        self.layer, self.rows, self.counted = layer, rows, next(iter(weights), "") if counting else None
        self.origins = Origins({})
        for name, weight in weights.items():
            self.origins.learn(weight, Origin(name, tuple(range(weight.dim()))))

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        factors = operands(func, args, kwargs)
        if factors is not None:
            for weight, other in (factors, factors[::-1]):
                origin = self.origins.of(weight.tensor)
                if origin is not None:
                    if origin.parameter == self.counted:
                        self.rows[self.counted].count(weight.tensor, other, args, kwargs)
                    factor = replace(other, tensor=self._quantized(origin.parameter, other))
                    if self.layer.observer is not None:
                        for expert, x in self.rows[origin.parameter].split(weight.tensor, factor, args, kwargs):
                            self.layer.observer(origin.parameter, expert, x)
                    args, kwargs = with_operand(args, kwargs, other.place, factor.tensor)
        out = func(*args, **kwargs)
        self.origins.note(func, args, out)
        for rows in self.rows.values():
            rows.follow(func, args, out, self.origins)
        return out

    def _quantized(self, parameter: str, other: Operand) -> Tensor:
        quantizer = self.layer.get_submodule(self.layer.slots[input_slot(parameter)])
        if is_idle(quantizer):
            return other.tensor
        x: Tensor = quantizer(other.tensor.movedim(other.contracted, -1))
        return x.movedim(-1, other.contracted)


EXPERTS = QuantModuleSpec("experts", nn.Module, ExpertsQuantModule, weights=(), activations=(), found_by="stacked")

"""ExpertsQuantModule: any module whose parameters stack one matrix an expert."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mtcore.nn.derived import DerivedQuantModule
from mtcore.nn.quant_module import QuantModule, is_idle
from mtcore.nn.spec import QuantModuleSpec, input_slot
from mtcore.trace.products import Operand, Origin, Origins, operands, with_operand


class ExpertsQuantModule(DerivedQuantModule):
    """Slots: every stacked weight, with scales for each expert, and the input of the products with it.

    While the original's forward runs, the attribute of a stacked weight gives its fake-quantized values, and what
    is multiplied with them, with a slice or a gathered copy of them, is quantized too: whichever way the experts
    are computed (a loop over experts, a batched product, a grouped product).
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.idle:
            return super().forward(*args, **kwargs)
        weights = {
            slot: self.get_submodule(attribute)(self._parameters[slot])
            for slot, attribute in self.slots.items()
            if slot in self._parameters
        }
        self.__dict__.update(weights)  # found before the parameters, which stay where they are
        try:
            with _Interposed(self, weights):
                return super().forward(*args, **kwargs)
        finally:
            for name in weights:
                del self.__dict__[name]


class _Interposed(TorchFunctionMode):
    """Quantizes the other factor of every product with a stacked weight during one forward."""

    def __init__(self, layer: QuantModule, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.layer = layer
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
                    args, kwargs = with_operand(args, kwargs, other.place, self._quantized(origin.parameter, other))
        out = func(*args, **kwargs)
        self.origins.note(func, args, out)
        return out

    def _quantized(self, parameter: str, other: Operand) -> Tensor:
        quantizer = self.layer.get_submodule(self.layer.slots[input_slot(parameter)])
        if is_idle(quantizer):
            return other.tensor
        x: Tensor = quantizer(other.tensor.movedim(other.contracted, -1))
        return x.movedim(-1, other.contracted)


EXPERTS = QuantModuleSpec("experts", nn.Module, ExpertsQuantModule, weights=(), activations=(), found_by="stacked")

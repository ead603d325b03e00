"""Operands: attention found by its products, and stacked expert weights by the axis that a product contracts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mtcore.trace.products import Operand, Origins, operands
from mtcore.trace.structure import tensors_in

SOFTMAX = ("softmax", "_softmax")
ATTENTION_PRODUCTS = ("matmul", "__matmul__", "bmm", "baddbmm")


@dataclass(frozen=True)
class AttentionSite:
    """A module whose own forward computes attention.

    Attributes:
        module: dotted name.
        kind: "sdpa" where it calls scaled_dot_product_attention; "products" where a softmax stands between two
            products.
        scores, values: for "products", which of the products (matmul, bmm, baddbmm; counted from 0 over one call of
            the module, its children included) give the scores and the result.
        products: how many such products one call makes.
    """

    module: str
    kind: Literal["sdpa", "products"]
    scores: tuple[int, ...] = ()
    values: tuple[int, ...] = ()
    products: int = 0


@dataclass(frozen=True)
class StackedWeight:
    """A parameter of three axes that holds one matrix an expert.

    Attributes:
        module, parameter: dotted name of its owner, and its name there.
        channel_axis: the axis (1 or 2) of its output channels; a product contracts the other one.
    """

    module: str
    parameter: str
    channel_axis: int


@dataclass
class _Call:
    """One call of a module while it runs: its products so far, and what its tensors are made of."""

    module: str
    products: int = 0
    sdpa: bool = False
    scores: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    made_of: dict[int, tuple[Tensor, str, int]] = field(default_factory=dict)


class OperandWatch(TorchFunctionMode):
    """Watches the torch calls of one forward; told when modules begin and end."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._calls: list[_Call] = []
        self._sites: dict[str, AttentionSite] = {}
        stacked = {f"{m}\n{p}": t for m, module in model.named_modules() for p, t in _stacked(module)}
        self._parameters = {id(tensor) for tensor in model.parameters()}
        self._origins = Origins(stacked)
        self._contracted: dict[str, set[int]] = {}

    def enter(self, module: str) -> None:
        self._calls.append(_Call(module))

    def leave(self) -> None:
        call = self._calls.pop()
        if call.sdpa:
            self._sites.setdefault(call.module, AttentionSite(call.module, "sdpa"))
        elif call.values:
            site = AttentionSite(call.module, "products", tuple(call.scores), tuple(call.values), call.products)
            self._sites.setdefault(call.module, site)

    @property
    def attentions(self) -> tuple[AttentionSite, ...]:
        """Modules that compute attention, innermost ones in the order in which they finished."""
        return tuple(self._sites.values())

    @property
    def stacked(self) -> tuple[StackedWeight, ...]:
        """Parameters of three axes of which products contract the second or the third, always the same."""
        found = []
        for key, axes in self._contracted.items():
            module, parameter = key.split("\n")
            if axes in ({1}, {2}):
                found.append(StackedWeight(module, parameter, 2 if axes == {1} else 1))
        return tuple(found)

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self._origins.note(func, args, out)
        if self._calls:
            self._note(self._calls[-1], func, args, kwargs, out)
        return out

    def _note(self, call: _Call, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        if func is F.scaled_dot_product_attention:
            call.sdpa = True
            return
        name = getattr(func, "__name__", "")
        factors = operands(func, args, kwargs)
        if factors is not None:
            self._note_contraction(factors)
            if name in ATTENTION_PRODUCTS:
                self._note_product(call, factors, out)
            return
        if not call.made_of:
            return
        source = next((s for t in tensors_in((args, kwargs)) if (s := call.made_of.get(id(t))) is not None), None)
        if source is not None:
            kind = "softmax" if name in SOFTMAX and source[1] == "scores" else source[1]
            for result in tensors_in(out):
                call.made_of[id(result)] = (result, kind, source[2])

    def _note_product(self, call: _Call, factors: tuple[Operand, Operand], out: Any) -> None:
        number = call.products
        for running in self._calls:
            running.products += 1
        left, right = (call.made_of.get(id(factor.tensor)) for factor in factors)
        if left is not None and left[1] == "softmax":
            call.scores.append(left[2])
            call.values.append(number)
        elif right is None and not any(self._is_weight(factor.tensor) for factor in factors):
            call.made_of[id(out)] = (out, "scores", number)

    def _is_weight(self, tensor: Tensor) -> bool:
        base = tensor._base
        return id(tensor) in self._parameters or (base is not None and id(base) in self._parameters)

    def _note_contraction(self, factors: tuple[Operand, Operand]) -> None:
        for factor in factors:
            origin = self._origins.of(factor.tensor)
            axis = origin.axes[factor.contracted] if origin is not None else None
            if origin is not None and axis is not None:
                self._contracted.setdefault(origin.parameter, set()).add(axis)


def _stacked(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, p) for name, p in module._parameters.items() if p is not None and p.dim() == 3]

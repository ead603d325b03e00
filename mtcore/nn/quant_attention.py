"""AttentionQuantModule: any module that computes attention, with q, k, v and softmax quantized."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mtcore.errors import ModelError
from mtcore.nn.attention_math import attention
from mtcore.nn.derived import DerivedQuantModule
from mtcore.nn.quant_module import is_idle
from mtcore.nn.spec import QuantModuleSpec
from mtcore.trace.operands import ATTENTION_PRODUCTS
from mtcore.trace.products import Operand, operands, with_operand

_SDPA_OPERANDS = (("query", "q"), ("key", "k"), ("value", "v"))


class AttentionQuantModule(DerivedQuantModule):
    """Slots q, k, v and softmax, the operands of the two products of attention.

    While the original's forward runs, calls of torch.nn.functional.scaled_dot_product_attention get quantized
    operands, wherever they are written. Attention that is written out as two products is recognised by their
    numbers, which the trace found (facts: scores, values, products). Features are the last axis of q, k and v, as
    in a cache; of the softmax they are the keys.

    Raises:
        ModelError: written-out attention makes another number of products than while it was traced.
    """

    q_quantizer: nn.Module
    k_quantizer: nn.Module
    v_quantizer: nn.Module
    softmax_quantizer: nn.Module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.idle:
            return super().forward(*args, **kwargs)
        watch = _Interposed(self)
        with watch:
            out = super().forward(*args, **kwargs)
        expected = self.facts.get("products", (0,))[0]
        if expected and watch.products != expected:
            raise ModelError(
                f"{type(self).__name__} makes {watch.products} matrix products here, and made {expected} while it "
                "was traced: its q, k and v cannot be told apart. Use its scaled_dot_product_attention form, or "
                "leave it out"
            )
        return out


class _Interposed(TorchFunctionMode):
    """Puts quantized operands into the attention calls of one forward."""

    def __init__(self, layer: AttentionQuantModule) -> None:
        super().__init__()
        self.layer = layer
        self.products = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._sdpa(func, args, kwargs)
        if getattr(func, "__name__", "") in ATTENTION_PRODUCTS and "products" in self.layer.facts:
            factors = operands(func, args, kwargs)
            if factors is not None:
                args, kwargs = self._product(factors, args, kwargs)
        return func(*args, **kwargs)

    def _sdpa(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not is_idle(self.layer.softmax_quantizer):
            return attention(self.layer, *args, **kwargs)[0]
        args = (
            tuple(
                getattr(self.layer, f"{slot}_quantizer")(x)
                for x, (_, slot) in zip(args, _SDPA_OPERANDS, strict=False)
            )
            + args[len(_SDPA_OPERANDS) :]
        )
        named = {
            name: getattr(self.layer, f"{slot}_quantizer")(kwargs[name])
            for name, slot in _SDPA_OPERANDS
            if name in kwargs
        }
        return func(*args, **{**kwargs, **named})

    def _product(
        self, factors: tuple[Operand, Operand], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        number, self.products = self.products, self.products + 1
        left, right = factors
        layer, facts = self.layer, self.layer.facts
        if number in facts.get("scores", ()):
            args, kwargs = with_operand(args, kwargs, left.place, layer.q_quantizer(left.tensor))
            key: Tensor = layer.k_quantizer(right.tensor.transpose(-2, -1)).transpose(-2, -1)
            return with_operand(args, kwargs, right.place, key)
        if number in facts.get("values", ()):
            args, kwargs = with_operand(args, kwargs, left.place, layer.softmax_quantizer(left.tensor))
            return with_operand(args, kwargs, right.place, layer.v_quantizer(right.tensor))
        return args, kwargs


ATTENTION = QuantModuleSpec(
    "attention",
    nn.Module,
    AttentionQuantModule,
    weights=(),
    activations=("q", "k", "v", "softmax"),
    found_by="attention",
)

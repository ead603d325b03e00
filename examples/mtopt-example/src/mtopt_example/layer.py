"""The made-up library's layer for mtcore: its quantized form, its symbols, and the rule of its operation."""

from __future__ import annotations

from torch import Tensor, nn

from mtcore.nn import QuantModule, QuantModuleSpec, WeightSlot
from mtcore.trace import CLType, Symbol, SymbolSpec, SymInfo, TraceRuleSpec
from mtcore.trace.kernel_rules import pointwise
from mtopt_example.madeup import Projection, squash


class QuantProjection(QuantModule, Projection):
    """Projection with the slots input, weight and output."""

    input_quantizer: nn.Module
    weight_quantizer: nn.Module
    output_quantizer: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        product = self.input_quantizer(x) @ self.weight_quantizer(self.weight)
        return self.output_quantizer(squash(product + self.bias))


PROJECTION = QuantModuleSpec(
    "madeup.Projection",
    Projection,
    QuantProjection,
    weights=(WeightSlot("weight", channel_axis=1),),  # output channels are its columns
)


def symbols(module: nn.Module) -> SymInfo:
    """Both sizes of a Projection; they cross layers on the last axis of activations."""
    last = frozenset({-1})
    into = Symbol(cl_type=CLType.INCOMING, elastic_dims=last, parameter="weight", axis=0)
    out = Symbol(is_searchable=True, cl_type=CLType.OUTGOING, elastic_dims=last, parameter="weight", axis=1)
    return SymInfo({"in_features": into, "out_features": out})


PROJECTION_SYMBOLS = SymbolSpec("madeup.Projection", Projection, symbols)

SQUASH = TraceRuleSpec("madeup::squash", pointwise())

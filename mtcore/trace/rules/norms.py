"""Normalisations: the input keeps its values, weight and bias scale together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtcore.trace.planes import Shadow, spread
from mtcore.trace.rules.context import Call, RuleContext
from mtcore.trace.rules.registry import OpRules, RuleFunction


def register(rules: OpRules) -> None:
    rules.add("aten::native_layer_norm", norm(weight=2, bias=3))
    rules.add(["aten::_fused_rms_norm", "aten::rms_norm"], norm(weight=2))
    rules.add("aten::native_group_norm", group_norm)
    rules.add(["aten::_weight_norm", "aten::_weight_norm_interface"], weight_norm)
    batch = "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm"
    rules.add([f"aten::{name}" for name in batch.split()], batch_norm)


def norm(*, weight: int, bias: int | None = None) -> RuleFunction:
    """The rule of a normalisation of argument 0 over its last axes, by the places of its weight and bias.

    The input keeps its values; the result scales with the weight, and the bias as the weight does. It is over as
    many axes as the weight has.

    Example:
        >>> from mtcore.trace import TraceRuleSpec
        >>> TraceRuleSpec("fast::rms_norm", norm(weight=1)).name
        'fast::rms_norm'
    """

    def rule(context: RuleContext, call: Call) -> Shadow:
        return over_last(context, call, weight, bias)

    return rule


def over_last(context: RuleContext, call: Call, weight: int, bias: int | None) -> Shadow:
    x = call.args[0]
    w = call.args[weight] if weight < len(call.args) else None
    b = call.args[bias] if bias is not None and bias < len(call.args) else None
    shadow = context.get(x)
    count = (
        w.dim() if isinstance(w, Tensor) else len(call.args[1]) if isinstance(call.args[1], (list, tuple)) else 1
    )
    mark_statistic(context, shadow, range(x.dim() - count, x.dim()))
    return affine(context, shadow, w, b, x.shape, axis=None)


def group_norm(context: RuleContext, call: Call) -> Shadow:
    x, weight, bias = call.args[:3]
    shadow = context.get(x)
    context.freeze(shadow)
    return affine(context, shadow, weight, bias, x.shape, axis=1)


def batch_norm(context: RuleContext, call: Call) -> Shadow:
    """With running statistics: each channel has its own, which removal removes too."""
    x, weight, bias = call.args[:3]
    return affine(context, context.get(x), weight, bias, x.shape, axis=1)


def weight_norm(context: RuleContext, call: Call) -> list[Shadow]:
    """g * v / |v|, the length of v taken along all axes but one: v keeps its values, the product scales with g."""
    v, g = call.args[:2]
    axis = call.arg(2, "dim", 0) % v.dim()
    layout = [(a,) for a in (0, 1) if v.shape[a] > 1] if v.dim() > 2 else None  # a kernel, as convolutions use it
    direction = context.get(v, layout)
    context.pin(direction)
    mark_statistic(context, direction, [a for a in range(v.dim()) if a != axis])
    return [context.multiply(Shadow((), direction.dim), context.get(g), v.shape, g.shape)]


def affine(
    context: RuleContext, x: Shadow, weight: Tensor | None, bias: Tensor | None, shape: torch.Size, axis: int | None
) -> Shadow:
    """normalised(x) * weight + bias; the two lie along `axis`, or along the last axes."""
    context.pin(x)
    out = Shadow((), x.dim)
    for tensor, combine in ((weight, context.multiply), (bias, context.add)):
        if tensor is not None:
            own = context.get(tensor)
            like: Sequence[int] = tensor.shape
            if axis is not None:
                like = [tensor.shape[0] if d == axis else 1 for d in range(len(shape))]
                own = Shadow(tuple(p.view(like) for p in own.scale), tuple(p.view(like) for p in own.dim), own.wild)
            out = combine(out, own, shape, torch.Size(like))
    return Shadow(spread(out.scale, shape), spread(out.dim, shape), out.wild)


def mark_statistic(context: RuleContext, x: Shadow, axes: Sequence[int]) -> None:
    for plane in x.dim:
        context.statistic(plane, list(axes))

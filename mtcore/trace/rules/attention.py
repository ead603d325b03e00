"""Attention: scores keep their values; q and k cancel along the head's channels; the result scales with v."""

from __future__ import annotations

import torch
from torch import Tensor

from mtcore.trace.planes import Shadow
from mtcore.trace.rules.context import Call, RuleContext
from mtcore.trace.rules.registry import OpRules, RuleFunction, aten

BUILT_IN = aten(
    "scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu "
    "_scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention "
    "_scaled_dot_product_cudnn_attention _scaled_dot_product_attention_math "
    "_scaled_dot_product_fused_attention_overrideable"
)


def register(rules: OpRules) -> None:
    rules.add(BUILT_IN, attention())


def attention(
    *, q: int = 0, k: int = 1, v: int = 2, mask: int | None = None, heads_last: bool = False
) -> RuleFunction:
    """The rule of softmax(q kᵀ + mask) v, by the places of its operands, each [..., heads, tokens, channels].

    q and k cancel along a head's channels, the scores keep their values, the result scales with v; q, k and v of a
    head exist together. k and v may have fewer heads than q.

    Args:
        mask: the place of what is added to the scores; None looks at place 3 and at the keyword `attn_mask`.
        heads_last: the operands are [..., tokens, heads, channels].

    Example:
        >>> from mtcore.trace import TraceRuleSpec
        >>> TraceRuleSpec("flash::attend", attention(heads_last=True)).name
        'flash::attend'
    """

    def rule(context: RuleContext, call: Call) -> Shadow:
        found = mask if mask is not None else 3
        bias = call.arg(found, "attn_mask") if found < len(call.args) or "attn_mask" in call.kwargs else None
        return attend(context, call.args[q], call.args[k], call.args[v], bias, heads_last=heads_last)

    return rule


def attend(
    context: RuleContext, q: Tensor, k: Tensor, v: Tensor, mask: object, *, heads_last: bool = False
) -> Shadow:
    x, y, z = (_heads_first(context.get(t), heads_last) for t in (q, k, v))
    shapes = [_shape_first(t, heads_last) for t in (q, k, v)]
    y, shapes[1] = _repeat_heads(y, shapes[1], shapes[0])
    z, shapes[2] = _repeat_heads(z, shapes[2], shapes[0])
    turned = [*shapes[1][:-2], shapes[1][-1], shapes[1][-2]]
    keys = Shadow(tuple(p.mT for p in y.scale), tuple(p.mT for p in y.dim), y.wild)
    scores = context.contract(x, keys, shapes[0], turned)
    context.pin(scores)
    score_shape = torch.Size([*shapes[0][:-1], shapes[1][-2]])
    channels = scores.dim
    if isinstance(mask, Tensor):  # added to the scores: a bias for each head goes with its head
        bias = context.get(mask)
        context.pin(bias)
        channels = context.meet(Shadow((), channels), Shadow((), bias.dim, bias.wild), score_shape, mask.shape)
    out = context.contract(Shadow((), channels), z, score_shape, shapes[2])
    return _heads_first(out, heads_last)


def _heads_first(shadow: Shadow, heads_last: bool) -> Shadow:
    if not heads_last:
        return shadow
    return Shadow(
        tuple(p.transpose(-2, -3) for p in shadow.scale),
        tuple(p.transpose(-2, -3) for p in shadow.dim),
        shadow.wild,
    )


def _shape_first(tensor: Tensor, heads_last: bool) -> list[int]:
    return list(tensor.transpose(-2, -3).shape if heads_last else tensor.shape)


def _repeat_heads(shadow: Shadow, shape: list[int], like: list[int]) -> tuple[Shadow, list[int]]:
    """Grouped-query attention: head h reads group h // repeats."""
    if len(shape) < 3 or shape[-3] == like[-3]:
        return shadow, shape
    times = like[-3] // shape[-3]
    planes = [tuple(p.repeat_interleave(times, -3) for p in s) for s in (shadow.scale, shadow.dim)]
    return Shadow(planes[0], planes[1], shadow.wild), [*shape[:-3], like[-3], *shape[-2:]]

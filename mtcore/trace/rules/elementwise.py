"""Elementwise operations: which pass a scale, which add two, which break it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mtcore.trace.planes import NOTHING, Shadow, broadcast, negate, spread, varying
from mtcore.trace.rules.context import Call, RuleContext
from mtcore.trace.rules.registry import OpRules, RuleFunction, aten

# f(s x) = s f(x) for every s > 0
HOMOGENEOUS = aten("neg abs relu leaky_relu real imag nan_to_num alpha_dropout")
# f(s x) = f(x) for every s > 0
SCALE_FREE = aten("sign sgn angle isnan isinf isfinite")
NONLINEAR = aten(
    "silu gelu sigmoid tanh exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh sqrt "
    "rsqrt erf erfc erfinv softplus mish hardswish hardsigmoid hardtanh elu celu selu log_sigmoid "
    "log_sigmoid_forward clamp clamp_min clamp_max floor ceil round trunc frac square relu6 threshold "
    "hardshrink softshrink logit polar fmod remainder bitwise_not logical_not special_expit "
    "rrelu_with_noise asinh acosh atanh digamma lgamma special_i0 igamma"
)
COMPARISONS = aten(
    "eq ne lt le gt ge logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor isclose "
    "atan2 xlogy __and__ __or__ __lshift__ __rshift__ bitwise_left_shift bitwise_right_shift floor_divide "
    "isin bucketize searchsorted hypot logaddexp logaddexp2 histc bincount equal"
)


def register(rules: OpRules) -> None:
    rules.add(HOMOGENEOUS, pointwise(homogeneous=True))
    rules.add(SCALE_FREE, scale_free)
    rules.add(NONLINEAR, pointwise())
    rules.add(COMPARISONS, compare)
    rules.add(["aten::add", "aten::sub", "aten::rsub"], add)
    rules.add(["aten::maximum", "aten::minimum", "aten::fmax", "aten::fmin"], join)
    rules.add(["aten::mul", "aten::_conj_mul"], multiply)
    rules.add(["aten::div", "aten::true_divide"], divide)
    rules.add("aten::reciprocal", reciprocal)
    rules.add("aten::pow", power)
    rules.add("aten::where", where)
    rules.add("aten::masked_fill", masked_fill)
    rules.add("aten::lerp", lerp)
    rules.add(["aten::addcmul", "aten::addcdiv"], addcmul)
    rules.add("aten::_prelu_kernel", prelu)
    rules.add("aten::prelu", prelu)
    rules.add("aten::glu", glu)
    rules.add("aten::copy", copy)


def pointwise(*, homogeneous: bool = False) -> RuleFunction:
    """The rule of a function of each element of argument 0 alone.

    Its values stay and its channels pass. With `homogeneous`, for f(s x) = s f(x) at every s > 0 (a leaky ReLU),
    its scales pass too. Further tensor operands keep their values and channels.

    Example:
        >>> from mtcore.trace import TraceRuleSpec
        >>> TraceRuleSpec("mylib::leaky", pointwise(homogeneous=True)).name
        'mylib::leaky'
    """
    return scaled_alike if homogeneous else nonlinear


def scaled_alike(context: RuleContext, call: Call) -> Shadow:
    """Extra tensor operands are pinned."""
    for other in (*call.args[1:], *call.kwargs.values()):
        context.opaque(context.get(other))
    return context.get(call.args[0])


def scale_free(context: RuleContext, call: Call) -> Shadow:
    return Shadow((), context.get(call.args[0]).dim)


def nonlinear(context: RuleContext, call: Call) -> Shadow:
    """Extra tensor operands (the bounds of a clamp) are pinned too."""
    for other in (*call.args[1:], *call.kwargs.values()):
        context.opaque(context.get(other))
    return context.pointwise(context.get(call.args[0]), call.outs[0].shape)


def compare(context: RuleContext, call: Call) -> Shadow:
    x, y = context.get(call.args[0]), context.get(call.arg(1, "other"))
    context.pin(x)
    context.pin(y)
    if not isinstance(call.args[0], Tensor) or not isinstance(call.arg(1, "other"), Tensor):
        return Shadow((), (x or y).dim if call.outs else ())
    if not call.outs or call.outs[0].shape != broadcast(call.args[0].shape, call.args[1].shape):
        context.freeze(x)
        context.freeze(y)
        return NOTHING
    return Shadow((), context.meet(x, y, call.args[0].shape, call.args[1].shape))


def add(context: RuleContext, call: Call) -> Shadow:
    """x + alpha y. A parameter plus a number is an offset: (1 + w) keeps the labels of w."""
    x, y = call.args[0], call.arg(1, "other")
    number = _number(context, y)
    tensor = x
    if number is None and call.name == "aten::add":
        number, tensor = _number(context, x), y
    if number is not None and isinstance(tensor, Tensor) and tensor.shape == call.outs[0].shape:
        if number == 0:
            return context.get(tensor)
        raw = context.raw(tensor)
        if raw.view is not None and call.name == "aten::add" and call.kwargs.get("alpha", 1) == 1:
            return context.resolved(raw, offset=number)
        return context.pointwise(context.get(tensor))
    return context.add(_summand(context, x, y), _summand(context, y, x), x.shape, y.shape)


def _summand(context: RuleContext, value: Tensor, other: object) -> Shadow:
    """A parameter with two long axes has a scale for each pair of indices where the other summand has.

    The whole parameter, or rows of it that are added to what a stack of matrices gave: biases of experts.
    """
    view = context.raw(value).view
    if view is None or not isinstance(other, Tensor) or context.raw(other).view is not None:
        return context.get(value)
    size = context.arena.shapes[view.param]
    long = [axis for axis, n in enumerate(size) if n > 1]
    if len(long) == 2:
        shape = broadcast(value.shape, other.shape)
        wanted = {axis for a in long for axis in varying(view.coords[a].expand(shape))}
        matching = [p for p in spread(context.get(other).scale, shape) if wanted <= set(varying(p))]
        if any(value.numel() == math.prod(size) or context.arena.is_stacked(plane) for plane in matching):
            return context.get(value, [tuple(long)])
    return context.get(value)


def join(context: RuleContext, call: Call) -> Shadow:
    x, y = call.args[0], call.arg(1, "other")
    return context.add(context.get(x), context.get(y), x.shape, y.shape)


def multiply(context: RuleContext, call: Call) -> Shadow:
    x, y = call.args[0], call.arg(1, "other")
    if not isinstance(y, Tensor):
        return context.get(x)
    return context.multiply(context.get(x), context.get(y), x.shape, y.shape)


def divide(context: RuleContext, call: Call) -> Shadow:
    x, y = call.args[0], call.arg(1, "other")
    if call.kwargs.get("rounding_mode") is not None:
        context.pin(context.get(y))
        return context.pointwise(context.get(x), call.outs[0].shape)
    if not isinstance(y, Tensor):
        return context.get(x)
    return context.divide(context.get(x), context.get(y), x.shape, y.shape)


def reciprocal(context: RuleContext, call: Call) -> Shadow:
    x = context.get(call.args[0])
    return Shadow(negate(x.scale, wild=x.wild), x.dim, x.wild)


def power(context: RuleContext, call: Call) -> Shadow:
    base, exponent = call.args[0], call.arg(1, "exponent")
    if isinstance(base, Tensor) and not isinstance(exponent, Tensor) and exponent == 1:
        return context.get(base)
    x, y = context.get(base), context.get(exponent)
    context.pin(y)
    context.pin(x)
    if not isinstance(base, Tensor) or not isinstance(exponent, Tensor):
        return Shadow((), spread((x or y).dim, call.outs[0].shape))
    return Shadow((), context.meet(x, y, base.shape, exponent.shape))


def where(context: RuleContext, call: Call) -> Shadow:
    if len(call.args) < 3:
        context.opaque(context.get(call.args[0]))
        return NOTHING
    condition, x, y = call.args[:3]
    context.pin(context.get(condition))
    shape = call.outs[0].shape
    parts = [Shadow(spread(s.scale, shape), spread(s.dim, shape), s.wild) for s in map(context.get, (x, y))]
    zero = [_number(context, v) == 0 for v in (x, y)]
    if any(zero):
        return parts[0] if zero[1] else parts[1]
    if not any(parts):
        return NOTHING
    return context.add(parts[0], parts[1], shape if parts[0] else _shape(x), shape if parts[1] else _shape(y))


def masked_fill(context: RuleContext, call: Call) -> Shadow:
    """Filling with zero keeps every scale; any other number pins it."""
    shape = call.outs[0].shape
    x, value = context.get(call.args[0]), call.arg(2, "value")
    context.pin(context.get(call.args[1]))
    if _number(context, value) == 0:
        return Shadow(spread(x.scale, shape), spread(x.dim, shape), x.wild)
    context.opaque(context.get(value))
    return context.pointwise(x, shape)


def lerp(context: RuleContext, call: Call) -> Shadow:
    """x + w (y - x)."""
    x, y, weight = call.args[0], call.args[1], call.args[2]
    w = context.get(weight)
    context.pin(w)
    mixed = context.add(context.get(x), context.get(y), x.shape, y.shape)
    if not isinstance(weight, Tensor):
        return mixed
    return Shadow(mixed.scale, context.meet(mixed, Shadow((), w.dim), call.outs[0].shape, weight.shape), mixed.wild)


def addcmul(context: RuleContext, call: Call) -> Shadow:
    base, x, y = call.args[:3]
    combine = context.multiply if call.name == "aten::addcmul" else context.divide
    product = combine(context.get(x), context.get(y), x.shape, y.shape)
    return context.add(context.get(base), product, base.shape, broadcast(x.shape, y.shape))


def prelu(context: RuleContext, call: Call) -> Shadow:
    """The slope keeps its value; the input's positive scale passes."""
    x, slope = context.get(call.args[0]), context.get(call.args[1])
    context.opaque(slope)
    return x


def glu(context: RuleContext, call: Call) -> Shadow:
    """a * sigmoid(b) for the two halves."""
    x, axis = context.get(call.args[0]), call.arg(1, "dim", -1)
    halves = [
        Shadow(tuple(p.chunk(2, axis)[i] for p in x.scale), tuple(p.chunk(2, axis)[i] for p in x.dim), x.wild)
        for i in (0, 1)
    ]
    shape = call.outs[0].shape
    return context.multiply(halves[0], context.pointwise(halves[1]), shape, shape)


def copy(context: RuleContext, call: Call) -> Shadow:
    source = context.get(call.args[1])
    shape = call.args[0].shape
    return Shadow(spread(source.scale, shape), spread(source.dim, shape), source.wild)


def _number(context: RuleContext, value: object) -> float | None:
    """A Python number, or a constant that was wrapped into a tensor without axes."""
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, Tensor) and value.dim() == 0 and not value.is_complex() and not context.raw(value):
        return float(value) if value.device.type != "meta" else None
    return None


def _shape(value: object) -> torch.Size:
    return value.shape if isinstance(value, Tensor) else torch.Size(())

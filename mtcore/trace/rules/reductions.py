"""Sums, means, extrema, scans, sorting and softmax along axes."""

from __future__ import annotations

from mtcore.trace.planes import NOTHING, Shadow, repeats
from mtcore.trace.rules.context import Call, RuleContext
from mtcore.trace.rules.registry import OpRules, aten

SUMS = ["aten::sum", "aten::nansum"]
STATISTICS = aten("mean amax amin linalg_vector_norm norm logsumexp")
SPREADS = aten("var std var_mean std_mean prod all any _is_all_true _is_any_true")
PICKS = aten("max min median mode aminmax")
ORDERS = aten("topk sort argsort argmax argmin kthvalue")
SOFTMAX = aten("_softmax softmax _log_softmax log_softmax _safe_softmax")
SCANS = aten("cumsum logcumsumexp cumprod cummax cummin diff")
LINEAR_SCANS = {"aten::cumsum"}
OPAQUE = aten(
    "nonzero unique_dim _unique2 unique_consecutive item _local_scalar_dense is_nonzero count_nonzero equal"
)


def register(rules: OpRules) -> None:
    rules.add(SUMS, total)
    rules.add(STATISTICS, statistic)
    rules.add(SPREADS, spread_of)
    rules.add(PICKS, extreme)
    rules.add(ORDERS, order)
    rules.add(SOFTMAX, softmax)
    rules.add(SCANS, scan_along)
    rules.add(OPAQUE, opaque)


def _axes(call: Call, place: int = 1, name: str = "dim") -> tuple[list[int], bool]:
    x = call.args[0]
    dim = call.arg(place, name)
    keepdim = bool(call.arg(place + 1, "keepdim", False))
    if dim is None or dim == []:
        return list(range(x.dim())), keepdim
    dims = [dim] if isinstance(dim, int) else list(dim)
    return [d % max(x.dim(), 1) for d in dims], keepdim


def total(context: RuleContext, call: Call) -> Shadow:
    axes, keepdim = _axes(call)
    return context.reduce(context.get(call.args[0]), axes, keepdim=keepdim, statistic=False)


def statistic(context: RuleContext, call: Call) -> Shadow:
    """Homogeneous statistics: the mean or the largest of scaled values is the scaled one."""
    x = context.get(call.args[0])
    if call.name in ("aten::linalg_vector_norm", "aten::norm"):
        axes, keepdim = _axes(call, 2)
    elif call.name == "aten::logsumexp":
        context.pin(x)
        x = Shadow((), x.dim)
        axes, keepdim = _axes(call)
    else:
        axes, keepdim = _axes(call)
    if call.outs[0].dim() != call.args[0].dim() - (0 if keepdim else len(axes)):
        context.opaque(x)
        return NOTHING
    return context.reduce(x, axes, keepdim=keepdim, statistic=True)


def spread_of(context: RuleContext, call: Call) -> list[Shadow]:
    x = context.get(call.args[0])
    context.pin(x)
    out = call.outs[0]
    axes, keepdim = _axes(call)
    if out.dim() != call.args[0].dim() - (0 if keepdim else len(axes)):
        context.freeze(x)
        return []
    rest = context.reduce(Shadow((), x.dim), axes, keepdim=keepdim, statistic=True)
    return [rest for _ in call.outs]


def extreme(context: RuleContext, call: Call) -> list[Shadow]:
    """max or min along one axis, or over everything."""
    x = context.get(call.args[0])
    if len(call.args) < 2 or not isinstance(call.args[1], int):
        context.opaque(x)
        return []
    axes, keepdim = _axes(call)
    if len(call.outs) > 1:
        for plane in x.dim:
            if not repeats(plane, axes[0]):
                context.relations.place(call.outs[1], plane, context.site)
    return [context.reduce(x, axes, keepdim=keepdim, statistic=True)]


def order(context: RuleContext, call: Call) -> list[Shadow]:
    """What depends on the order of values keeps the values; channels along the axis cannot be removed."""
    x = context.get(call.args[0])
    context.pin(x)
    axis = call.arg(2 if call.name in ("aten::topk", "aten::kthvalue") else 1, "dim", -1)
    if not isinstance(axis, int):
        context.freeze(x)
        return []
    kept = []
    for plane in x.dim:
        if repeats(plane, axis):
            kept.append(plane)
        else:
            context.relations.freeze(plane, context.site)
            context.relations.choose(plane, context.site)
    shape = call.outs[0].shape
    if call.outs[0].dim() != call.args[0].dim():
        return []
    planes = tuple(p.narrow(axis, 0, 1).expand(shape) for p in kept)
    return [Shadow((), planes) for _ in call.outs]


def softmax(context: RuleContext, call: Call) -> Shadow:
    x = context.get(call.args[0])
    context.pin(x)
    axis = call.arg(1, "dim")
    for plane in x.dim:
        context.statistic(plane, [axis])
    return Shadow((), x.dim)


def scan_along(context: RuleContext, call: Call) -> list[Shadow]:
    x = context.get(call.args[0])
    axis = call.arg(1, "dim", -1)
    linear = call.name in LINEAR_SCANS
    if not linear:
        context.pin(x)
    lines = context.equal_along(x, [axis]) if linear else ()
    for plane in x.dim:
        if not repeats(plane, axis):
            context.relations.freeze(plane, context.site)
    shape = call.outs[0].shape
    planes = tuple(p.expand(shape) for p in lines)
    if call.name == "aten::diff":
        context.freeze(x)
        return []
    return [Shadow(planes, tuple(x.dim), x.wild)]


def opaque(context: RuleContext, call: Call) -> Shadow:
    for value in call.args:
        context.opaque(context.get(value))
    return NOTHING

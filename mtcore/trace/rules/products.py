"""Matrix products and convolutions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mtcore.trace.arena import Axes
from mtcore.trace.planes import Plane, Shadow, broadcast, first, repeats, spread
from mtcore.trace.rules.context import Call, RuleContext
from mtcore.trace.rules.registry import OpRules, RuleFunction


def register(rules: OpRules) -> None:
    rules.add(["aten::mm", "aten::bmm", "aten::matmul", "aten::dot", "aten::mv", "aten::vdot"], product)
    rules.add(["aten::addmm", "aten::baddbmm", "aten::addmv", "aten::addbmm"], product_and_sum)
    rules.add("aten::linear", linear)
    rules.add("aten::_grouped_mm", grouped_matmul())
    rules.add(["aten::convolution", "aten::_convolution", "aten::mkldnn_convolution"], convolution)
    rules.add("aten::linalg_solve_triangular", solve_triangular)


def product(context: RuleContext, call: Call) -> Shadow:
    return matmul(context, call.args[0], call.args[1])


def product_and_sum(context: RuleContext, call: Call) -> Shadow:
    """beta * c + alpha * a @ b."""
    c, a, b = call.args[:3]
    result = matmul(context, a, b)
    if call.kwargs.get("beta", 1) == 0:
        return result
    if call.name == "aten::addbmm":
        result = context.reduce(result, [0], keepdim=False, statistic=False)
    return context.add(context.get(c), result, c.shape, call.outs[0].shape)


def linear(context: RuleContext, call: Call) -> Shadow:
    x, weight, bias = call.args[0], call.args[1], call.arg(2, "bias")
    result = matmul(context, x, weight, transposed=True)
    if bias is None:
        return result
    return context.add(result, context.get(bias), call.outs[0].shape, bias.shape)


def matmul(context: RuleContext, a: Tensor, b: Tensor, *, transposed: bool = False) -> Shadow:
    """a @ b (or a @ b.T) for operands of any rank, vectors included."""
    x, x_shape = _matrix(context, a, side=0)
    y, y_shape = _matrix(context, b, side=1)
    if transposed:
        y = Shadow(tuple(p.mT for p in y.scale), tuple(p.mT for p in y.dim), y.wild)
        y_shape = [*y_shape[:-2], y_shape[-1], y_shape[-2]]
    batch = list(broadcast(x_shape[:-2], y_shape[:-2]))
    x_full, y_full = [*batch, *x_shape[-2:]], [*batch, *y_shape[-2:]]
    x = Shadow(spread(x.scale, x_full), spread(x.dim, x_full), x.wild)
    y = Shadow(spread(y.scale, y_full), spread(y.dim, y_full), y.wild)
    out = context.contract(x, y, x_full, y_full)
    gone = ([-2] if a.dim() == 1 else []) + ([-1] if b.dim() == 1 else [])
    return _squeeze(out, gone)


def _matrix(context: RuleContext, tensor: Tensor, *, side: int) -> tuple[Shadow, list[int]]:
    """The shadow of a factor with at least two axes, its parameter laid out by how it is used here."""
    along = -1 if side == 0 or tensor.dim() == 1 else -2
    shadow = context.get(tensor, _layout(context, tensor, along))
    shape = list(tensor.shape)
    if tensor.dim() > 1:
        return shadow, shape
    axis = 0 if side == 0 else 1
    planes = [tuple(p.unsqueeze(axis) for p in s) for s in (shadow.scale, shadow.dim)]
    return Shadow(planes[0], planes[1], shadow.wild), ([1, *shape] if side == 0 else [*shape, 1])


def _layout(context: RuleContext, tensor: Tensor, along: int) -> list[Axes] | None:
    """Roles of a parameter with three or more axes by its first contraction: which axes are summed, which are
    free, and which count the matrices (they belong to both)."""
    view = context.raw(tensor).view
    if view is None or len(context.arena.usual(view.param)) < 2 or tensor.dim() < 2:
        return None
    along %= tensor.dim()
    across = tensor.dim() - 1 if along == tensor.dim() - 2 else tensor.dim() - 2
    summed: list[int] = []
    free: list[int] = []
    stacked: list[int] = []
    for axis, coords in enumerate(view.coords):
        if context.arena.shapes[view.param][axis] == 1:
            continue
        places = [not repeats(coords, along), not repeats(coords, across)]
        if all(places):
            return None
        (summed if places[0] else free if places[1] else stacked).append(axis)
    if not summed or not free:
        return None
    return [tuple(sorted(stacked + free)), tuple(sorted(stacked + summed))]


def _squeeze(shadow: Shadow, axes: Sequence[int]) -> Shadow:
    def cut(planes: tuple[Plane, ...]) -> tuple[Plane, ...]:
        for axis in axes:
            planes = tuple(p.squeeze(axis) for p in planes)
        return planes

    return Shadow(cut(shadow.scale), cut(shadow.dim), shadow.wild)


def grouped_matmul(*, x: int = 0, weight: int = 1, ends: int = 2) -> RuleFunction:
    """The rule of x [rows, K] times, for each row, the matrix of its group in weight [groups, K, N].

    Along K scales cancel, matrix by matrix; the result scales with the columns of the matrix.

    Args:
        ends: the place of the ends of the groups' rows, int [groups], ascending.

    Example:
        >>> from mtcore.trace import TraceRuleSpec
        >>> TraceRuleSpec("moe::grouped_gemm", grouped_matmul()).name
        'moe::grouped_gemm'
    """

    def rule(context: RuleContext, call: Call) -> Shadow:
        return rows_times_groups(
            context, call.args[x], call.args[weight], call.arg(ends, "offs"), call.outs[0].shape
        )

    return rule


def rows_times_groups(
    context: RuleContext, x: Tensor, weight: Tensor, ends: Tensor | None, shape: torch.Size
) -> Shadow:
    """Rows of x meet the matrix of their group: a batch of vector-matrix products."""
    if ends is None or x.dim() != 2 or weight.dim() != 3:
        if x.dim() == 3 and weight.dim() == 3:
            return matmul(context, x, weight)
        raise NotImplementedError("grouped product of these ranks")
    rows = torch.arange(x.shape[0])
    group = torch.bucketize(rows, ends.long(), right=True).clamp(max=weight.shape[0] - 1)
    w = context.get(weight, _layout(context, weight, -2))
    left = context.get(x)
    full = [x.shape[0], *weight.shape[1:]]
    y = Shadow(
        tuple(_by_row(p, group, full) for p in w.scale), tuple(_by_row(p, group, full) for p in w.dim), w.wild
    )
    lines = [x.shape[0], 1, x.shape[1]]
    x3 = _map(left, lambda p: p.unsqueeze(1))
    return _squeeze(context.contract(x3, y, lines, full), [-2])


def _by_row(plane: Plane, group: Tensor, shape: Sequence[int]) -> Plane:
    for axis in (1, 2):
        if plane.stride(axis) == 0:
            plane = plane.narrow(axis, 0, 1)
    return plane[group].expand(tuple(shape))


def convolution(context: RuleContext, call: Call) -> Shadow:
    """Along input channels scales cancel, within each group; kernel positions share one scale."""
    x, weight, bias = call.args[0], call.args[1], call.arg(2, "bias")
    transposed, groups = bool(call.arg(6, "transposed")), int(call.arg(8, "groups"))
    spatial = x.dim() - 2
    left = context.get(x)
    w = context.get(weight, [(axis,) for axis in (0, 1) if weight.shape[axis] > 1] or [(0,)])
    axes = list(range(2, x.dim()))
    x_lines = Shadow(context.equal_along(left, axes), tuple(first(p, axes) for p in left.dim), left.wild)
    for p in left.dim:
        if any(not repeats(p, axis) for axis in axes):
            context.relations.freeze(p, context.site)
    w_lines = Shadow(context.equal_along(w, axes), tuple(first(p, axes) for p in w.dim), w.wild)
    n, channels = x.shape[0], x.shape[1]
    a = _map(x_lines, lambda p: p.reshape(n, groups, channels // groups).transpose(0, 1))  # [g, n, I]
    outputs = call.outs[0].shape[1]
    if transposed:  # weight [in, out / groups, ...]
        b = _map(w_lines, lambda p: p.reshape(groups, channels // groups, outputs // groups))  # [g, I, O]
    else:  # weight [out, in / groups, ...]
        b = _map(w_lines, lambda p: p.reshape(groups, outputs // groups, channels // groups).mT)
    if 1 < groups < channels:
        context.freeze(w_lines)
        context.freeze(x_lines)
    a_shape, b_shape = [groups, n, channels // groups], [groups, channels // groups, outputs // groups]
    if groups == channels and groups > 1:  # a channel and its filter exist together
        full = [groups, n, outputs // groups]
        for p, q in itertools.product(spread(a.dim, full), spread(b.dim, full)):
            context.relations.tie(p, q, context.site)
    c = context.contract(a, b, a_shape, b_shape)  # [g, n, O]
    shape = call.outs[0].shape

    def back(p: Plane) -> Plane:
        return p.transpose(0, 1).reshape(n, outputs, *[1] * spatial).expand(shape)

    out = _map(c, back)
    if bias is None:
        return out
    channel = _map(context.get(bias), lambda p: p.view(-1, *[1] * spatial))
    return context.add(out, channel, shape, torch.Size([bias.shape[0], *[1] * spatial]))


def _map(shadow: Shadow, fn: Callable[[Plane], Plane]) -> Shadow:
    return Shadow(tuple(fn(p) for p in shadow.scale), tuple(fn(p) for p in shadow.dim), shadow.wild)


def solve_triangular(context: RuleContext, call: Call) -> Shadow:
    """X with A X = B: linear in B when A keeps its values."""
    a, b = context.get(call.args[0]), context.get(call.args[1])
    context.opaque(a)
    if not call.kwargs.get("left", True):
        context.opaque(b)
        return Shadow()
    axis = call.args[1].dim() - 2
    lines = context.equal_along(b, [axis])
    shape = call.outs[0].shape
    dim = [p for p in b.dim if repeats(p, axis)]
    for p in b.dim:
        if not repeats(p, axis):
            context.relations.freeze(p, context.site)
    return Shadow(spread(lines, shape), spread(dim, shape), b.wild)

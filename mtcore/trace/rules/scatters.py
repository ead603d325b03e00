"""Writes at computed places: index_put, scatter, index_add and their like."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mtcore.trace.planes import CONST, Plane, Shadow, spread
from mtcore.trace.rules.context import Call, RuleContext
from mtcore.trace.rules.registry import OpRules


def register(rules: OpRules) -> None:
    rules.add(["aten::index_put", "aten::_index_put_impl", "aten::_unsafe_index_put"], index_put)
    rules.add(["aten::index_add", "aten::index_copy"], along_axis)
    rules.add(["aten::scatter", "aten::scatter_add", "aten::scatter_reduce"], scatter)
    rules.add(["aten::slice_scatter", "aten::select_scatter", "aten::diagonal_scatter"], written_slice)
    rules.add("aten::masked_scatter", masked_scatter)
    rules.add("aten::index_fill", index_fill)


def index_put(context: RuleContext, call: Call) -> Shadow:
    """target[indices] = values, or += with `accumulate`."""
    target, indices, values = call.args[:3]
    accumulate = bool(call.arg(3, "accumulate", False))
    base, new = context.get(target), context.get(values)

    def read(plane: Plane) -> Plane:
        return torch.ops.aten.index(plane, indices)  # type: ignore[no-any-return]

    def write(plane: Plane, part: Plane) -> Plane:
        return torch.ops.aten.index_put(plane, indices, part)  # type: ignore[no-any-return]

    return _write(context, base, new, target, values.shape, read, write, accumulate=accumulate)


def along_axis(context: RuleContext, call: Call) -> Shadow:
    target, axis, places, source = call.args[:4]
    base, new = context.get(target), context.get(source)

    def read(plane: Plane) -> Plane:
        return plane.index_select(axis, places)

    def write(plane: Plane, part: Plane) -> Plane:
        return plane.index_copy(axis, places.long(), part.contiguous())

    adds = call.name == "aten::index_add"
    return _write(context, base, new, target, source.shape, read, write, accumulate=adds)


def scatter(context: RuleContext, call: Call) -> Shadow:
    target, axis, places, source = call.args[:4]
    base, new = context.get(target), context.get(source)
    if not isinstance(source, Tensor):
        context.opaque(base)
        return Shadow()
    index = tuple(slice(0, n) for n in places.shape)
    part = Shadow(tuple(p[index] for p in new.scale), tuple(p[index] for p in new.dim), new.wild)

    def read(plane: Plane) -> Plane:
        return plane.gather(axis, places)

    def write(plane: Plane, piece: Plane) -> Plane:
        return plane.scatter(axis, places, piece)

    if call.name == "aten::scatter_reduce" and call.arg(4, "reduce") not in ("sum", "amax", "amin", "mean"):
        context.opaque(base)
        context.opaque(new)
        return Shadow()
    adds = call.name != "aten::scatter" or call.kwargs.get("reduce") is not None
    return _write(context, base, part, target, places.shape, read, write, accumulate=adds)


def written_slice(context: RuleContext, call: Call) -> Shadow:
    target, source = call.args[:2]
    base, new = context.get(target), context.get(source)
    view = {
        "aten::slice_scatter": torch.ops.aten.slice,
        "aten::select_scatter": torch.ops.aten.select,
        "aten::diagonal_scatter": torch.ops.aten.diagonal,
    }[call.name]

    def read(plane: Plane) -> Plane:
        return view(plane, *call.args[2:], **call.kwargs)  # type: ignore[no-any-return]

    def write(plane: Plane, part: Plane) -> Plane:
        copy = plane.clone()
        view(copy, *call.args[2:], **call.kwargs).copy_(part)
        return copy

    return _write(context, base, new, target, source.shape, read, write, accumulate=False)


def masked_scatter(context: RuleContext, call: Call) -> Shadow:
    target, mask, source = call.args[:3]
    base, new = context.get(target), context.get(source)
    full = mask.expand(target.shape)
    count = int(full.sum())

    def read(plane: Plane) -> Plane:
        return plane[full]

    def write(plane: Plane, part: Plane) -> Plane:
        return plane.contiguous().masked_scatter(full, part.contiguous())

    part = Shadow(
        tuple(p.reshape(-1)[:count] for p in new.scale), tuple(p.reshape(-1)[:count] for p in new.dim), new.wild
    )
    return _write(context, base, part, target, torch.Size([count]), read, write, accumulate=False)


def index_fill(context: RuleContext, call: Call) -> Shadow:
    base = context.get(call.args[0])
    value = call.args[3]
    if isinstance(value, Tensor) or value != 0:
        return context.pointwise(base)
    return base


def _write(
    context: RuleContext,
    base: Shadow,
    new: Shadow,
    target: Tensor,
    shape: torch.Size,
    read: Any,
    write: Any,
    *,
    accumulate: bool,
) -> Shadow:
    """Puts `new` at some places of `base`; what is added there must agree with what lies there."""
    here_shape = read(torch.full((), CONST).expand(target.shape)).shape
    scale_new, dim_new = spread(new.scale, here_shape), spread(new.dim, here_shape)
    part = Shadow(scale_new, dim_new, new.wild)
    if accumulate:
        lying = Shadow(tuple(read(p) for p in base.scale), tuple(read(p) for p in base.dim), True)
        part = context.add(lying, part, here_shape, here_shape)
    done = Shadow(
        _write_planes(base.scale, part.scale, target, here_shape, write),
        _write_planes(base.dim, part.dim, target, here_shape, write),
        base.wild or part.wild,
    )
    if accumulate:  # several values may be added at one place: the last one written speaks for all
        context.relations.zero([read(p) for p in done.scale], part.scale, context.site)
        for p, q in zip(done.dim, part.dim, strict=False):
            context.relations.tie(read(p), q, context.site)
    return done


def _write_planes(
    old: tuple[Plane, ...], new: tuple[Plane, ...], target: Tensor, shape: torch.Size, write: Any
) -> tuple[Plane, ...]:
    constant = torch.full((), CONST)
    out = []
    for i in range(max(len(old), len(new))):
        base = old[i] if i < len(old) else constant.expand(target.shape)
        part = new[i] if i < len(new) else constant.expand(shape)
        out.append(write(base.contiguous(), part))
    return tuple(out)

"""Operations that only move elements: the same operation runs on the planes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mtcore.trace.planes import CONST, NOTHING, WILD, ParamView, Plane, Shadow, first, repeats, varying
from mtcore.trace.rules.context import Call, RuleContext
from mtcore.trace.rules.registry import OpRules, RuleFunction, aten

KEEP = aten(
    "alias clone contiguous detach lift_fresh lift _to_copy to dropout native_dropout positive _conj conj "
    "resolve_conj resolve_neg tril triu"
)
RESHAPE = aten("view _unsafe_view reshape _reshape_alias view_copy")
VIEWS = aten(
    "permute transpose t squeeze unsqueeze expand select slice split split_with_sizes chunk unbind narrow "
    "diagonal unfold movedim flip roll repeat repeat_interleave stack cat index_select gather "
    "masked_select take pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle rot90 "
    "expand_copy permute_copy slice_copy select_copy unsqueeze_copy squeeze_copy split_with_sizes_copy "
    "linalg_diagonal diagonal_copy"
)


def register(rules: OpRules) -> None:
    rules.add(KEEP, keep)
    rules.add(RESHAPE, reshape)
    rules.add(VIEWS, move())
    rules.add("aten::as_strided", as_strided)
    rules.add("aten::index", index)
    rules.add("aten::im2col", im2col)
    rules.add("aten::col2im", col2im)
    rules.add("aten::constant_pad_nd", pad)
    rules.add("aten::embedding", embedding)
    rules.add("aten::view_as_complex", view_as_complex)
    rules.add("aten::complex", complex_)
    rules.add("aten::view_as_real", view_as_real)
    rules.add(["aten::real", "aten::imag"], keep)


def move() -> RuleFunction:
    """The rule of an operation whose results hold its operands' elements at other places: a permutation, a gather.

    It demands nothing: the operation itself is run on labels, so it must accept int64 tensors.

    Example:
        >>> from mtcore.trace import TraceRuleSpec
        >>> TraceRuleSpec("mylib::shuffle", move()).makes_labels
        False
    """
    return moved


def keep(context: RuleContext, call: Call) -> Shadow:
    """Same elements at the same places."""
    return context.raw(call.args[0])


def reshape(context: RuleContext, call: Call) -> Shadow:
    shape = call.outs[0].shape
    source = call.args[0]
    if source.element_size() != call.outs[0].element_size():
        context.opaque(context.get(source))
        return NOTHING
    raw = context.raw(source)
    done = apply(raw, lambda plane: plane.reshape(shape))
    for before, after in zip(raw.dim, done.dim, strict=True):
        _split_channels(context, before, after)
    return done


def _split_channels(context: RuleContext, before: Plane, after: Plane) -> None:
    """Channels that a reshape splits into lines (heads): the code knows the length of a line, so lines go whole.

    There may be one line only: [batch, tokens, channels] becomes [batch, tokens, 1, channels].
    """
    axes = varying(after)
    one_line = after.shape == (*before.shape[:-1], 1, before.shape[-1]) and before.dim() > 2
    if len(axes) > max(1, len(varying(before))) or (one_line and axes == [after.dim() - 1]):
        context.relations.block(after, first(after, axes[-1:]).expand(after.shape), context.site)


def moved(context: RuleContext, call: Call) -> list[Shadow]:
    """Runs the operation on the planes of all operands, one plane of each at a time.

    Operands with fewer planes take part with constants. A parameter stays a view while it moves alone.
    """
    tensors = _tensors(call.args[0])
    indices = {id(t) for t in _tensors(call.args[1:])}
    alone = len(tensors) == 1
    shadows = {id(t): context.raw(t) if alone else context.get(t) for t in tensors}
    cache: dict[tuple[int, ...], list[Plane]] = {}

    def run(planes: dict[int, Plane]) -> list[Plane]:
        key = tuple(id(p) for p in planes.values())
        if key not in cache:
            out = call.func(*_swap(call.args, planes, indices), **call.kwargs)
            cache[key] = [out] if isinstance(out, Tensor) else list(out)
        return cache[key]

    constants = {id(t): torch.full((), CONST).expand(t.shape) for t in tensors}
    kept: list[dict[int, Plane]] = []  # planes stay alive, so that their ids mean something

    def rows(get: Callable[[Shadow], tuple[Plane, ...]]) -> list[list[Plane]]:
        found = []
        for i in range(max(len(get(s)) for s in shadows.values())):
            planes = {k: get(s)[i] if i < len(get(s)) else constants[k] for k, s in shadows.items()}
            kept.append(planes)
            found.append(run(planes))
        return found

    scale, dim = rows(lambda s: s.scale), rows(lambda s: s.dim)
    coords = rows(lambda s: s.view.coords if s.view else ())
    wild = any(s.wild for s in shadows.values())
    only = next(iter(shadows.values()))
    return [
        Shadow(
            tuple(row[i] for row in scale),
            tuple(row[i] for row in dim),
            wild,
            only.view and ParamView(only.view.param, tuple(row[i] for row in coords)),
        )
        for i in range(len(call.outs))
    ]


def apply(shadow: Shadow, fn: Callable[[Plane], Plane]) -> Shadow:
    """The shadow with `fn` applied to every plane, once to each."""
    done: dict[int, Plane] = {}

    def once(plane: Plane) -> Plane:
        if id(plane) not in done:
            done[id(plane)] = fn(plane)
        return done[id(plane)]

    view = shadow.view and ParamView(shadow.view.param, tuple(map(once, shadow.view.coords)))
    return Shadow(tuple(map(once, shadow.scale)), tuple(map(once, shadow.dim)), shadow.wild, view)


def as_strided(context: RuleContext, call: Call) -> Shadow:
    source: Tensor = call.args[0]
    size, stride = call.args[1], call.args[2]
    offset = call.arg(3, "storage_offset")
    offset = 0 if offset is None else offset - source.storage_offset()
    if not source.is_contiguous() or offset < 0:
        context.opaque(context.get(source))
        return NOTHING
    return apply(context.raw(source), lambda p: p.contiguous().as_strided(size, stride, offset))


def index(context: RuleContext, call: Call) -> Shadow:
    """Advanced indexing. Axes that are not indexed and repeat are cut first: a gather of weights stays small."""
    source, picks = call.args[0], call.args[1]
    shape = call.outs[0].shape
    used = [p for p in picks if p is not None]
    taken = sum(p.dim() if p.dtype in (torch.bool, torch.uint8) else 1 for p in used)
    simple = len(picks) > 0 and picks[0] is not None and len(used) == len(picks)

    def pick(plane: Plane) -> Plane:
        if simple:
            for axis in range(taken, plane.dim()):
                if plane.stride(axis) == 0 and plane.shape[axis] > 1:
                    plane = plane.narrow(axis, 0, 1)
        return call.func(plane, picks).expand(shape)  # type: ignore[no-any-return]

    return apply(context.raw(source), pick)


def im2col(context: RuleContext, call: Call) -> Shadow:
    """No integer kernel: labels below 2**53 are exact in float64."""
    shadow = context.get(call.args[0])
    if shadow.wild:
        context.opaque(shadow)
        return NOTHING
    padded = apply(shadow, lambda p: call.func(p.double(), *call.args[1:]).long())
    return padded  # a padded zero reads as a constant: fewer groups, never a wrong one


def col2im(context: RuleContext, call: Call) -> Shadow:
    """Patches back to their places; where they overlap they are summed, and nothing is claimed."""
    shadow = context.get(call.args[0])
    kernel, dilation, stride = call.args[2], call.args[3], call.args[5]
    if shadow.wild or any(d > 1 for d in dilation) or any(s < k for s, k in zip(stride, kernel, strict=True)):
        context.opaque(shadow)
        return NOTHING
    return apply(shadow, lambda p: call.func(p.double(), *call.args[1:]).long())


def pad(context: RuleContext, call: Call) -> Shadow:
    shadow = context.get(call.args[0])
    fill = WILD if call.arg(2, "value", 0) == 0 else CONST
    if not any(call.args[1]):
        return shadow
    padded = apply(shadow, lambda p: call.func(p, call.args[1], fill))
    shape = call.outs[0].shape
    dim = tuple(_pad_channels(plane, call.args[1], shape, fill) for plane in shadow.dim)
    rest = (
        tuple(torch.where(p == WILD, CONST, p) for p in padded.scale[1:]) if not shadow.wild else padded.scale[1:]
    )
    return Shadow((*padded.scale[:1], *rest), dim, shadow.wild or fill == WILD)


def _pad_channels(plane: Plane, amounts: Sequence[int], shape: torch.Size, fill: int) -> Plane:
    """What is padded along positions belongs to the channel there; along channels it belongs to none."""
    along = list(amounts)
    for axis in range(plane.dim()):
        place = 2 * (plane.dim() - 1 - axis)
        if place < len(along) and repeats(plane, axis):
            along[place : place + 2] = [0, 0]
            plane = plane.narrow(axis, 0, min(1, plane.shape[axis]))
    return torch.ops.aten.constant_pad_nd(plane, along, fill).expand(shape)  # type: ignore[no-any-return]


def embedding(context: RuleContext, call: Call) -> Shadow:
    """A look-up of rows: every row keeps its scale and its place, also one that no example token reads."""
    weight, ids = call.args[0], call.args[1]
    shadow = context.get(weight)
    shape = (*ids.shape, weight.shape[1])
    columns = []
    for plane in shadow.scale:
        if plane.stride(0) == 0 or plane.shape[0] == 1:
            columns.append(plane[0].expand(shape))
        else:
            rows = Shadow((plane,), (plane,), shadow.wild)
            context.opaque(rows)
    return Shadow(tuple(columns), tuple(columns), shadow.wild)


def view_as_complex(context: RuleContext, call: Call) -> Shadow:
    """A pair of numbers becomes one: both have one scale and exist together."""
    shadow = context.get(call.args[0])
    last = call.args[0].dim() - 1
    lines = context.equal_along(shadow, [last])
    for plane in shadow.dim:
        context.relations.tie(plane, plane.narrow(last, 0, 1).expand(plane.shape), context.site)
    return Shadow(tuple(p.squeeze(last) for p in lines), tuple(p.select(last, 0) for p in shadow.dim), shadow.wild)


def complex_(context: RuleContext, call: Call) -> Shadow:
    real, imaginary = call.args[0], call.args[1]
    return context.add(context.get(real), context.get(imaginary), real.shape, imaginary.shape)


def view_as_real(context: RuleContext, call: Call) -> Shadow:
    shape = call.outs[0].shape
    return apply(context.get(call.args[0]), lambda p: p.unsqueeze(-1).expand(shape))


def _tensors(args: object) -> list[Tensor]:
    if isinstance(args, Tensor):
        return [args]
    if isinstance(args, (tuple, list)):
        return [t for item in args for t in _tensors(item)]
    return []


def _swap(args: Any, planes: dict[int, Plane], indices: set[int]) -> Any:
    if isinstance(args, Tensor):
        return args if id(args) in indices else planes[id(args)]
    if isinstance(args, (tuple, list)):
        return type(args)(_swap(item, planes, indices) for item in args)
    return args

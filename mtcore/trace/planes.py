"""Label planes: for every element of a tensor, which row or column of which parameter it scales with.

A plane is an int64 tensor with the shape of the value. A label n > 0 stands for the log-scale of node n
(an index of an axis of a parameter, see `arena`), -n for its negative, CONST for zero,
WILD for a value that is exactly zero and so agrees with every scale.
Planes are broadcast views (stride 0) wherever labels repeat, so that weights cost no memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

CONST = 0
WILD = 1 << 62

Plane = Tensor


@dataclass(frozen=True)
class ParamView:
    """A parameter, or a moved piece of it, before it is known how its axes are used.

    `coords[i]` is a plane with the index along axis i of the parameter.
    """

    param: int
    coords: tuple[Plane, ...]


@dataclass(frozen=True)
class Shadow:
    """What is known of a tensor's elements.

    The log-scale of an element is the sum of its labels in `scale`; () is a constant.
    `dim` names the channels that the element vanishes with when they are removed.
    `view` is set instead of both for a parameter; rules see it only if they ask for it.
    """

    scale: tuple[Plane, ...] = ()
    dim: tuple[Plane, ...] = ()
    wild: bool = False
    """Whether a label may be WILD."""
    view: ParamView | None = None

    def __bool__(self) -> bool:
        return bool(self.scale or self.dim or self.view)


NOTHING = Shadow()


def zeros(shape: Sequence[int]) -> Shadow:
    """The shadow of a tensor that was made of zeros."""
    plane = torch.full((), WILD).expand(tuple(shape))
    return Shadow((plane,), (plane,), wild=True)


def compact(planes: Sequence[Plane]) -> list[Plane]:
    """Cuts every axis along which all planes repeat down to one index; the planes have one shape."""
    cut = list(planes)
    strides = [p.stride() for p in planes]
    for axis, n in enumerate(planes[0].shape):
        if n > 1 and all(s[axis] == 0 for s in strides):
            cut = [p.narrow(axis, 0, 1) for p in cut]
    return cut


def repeats(plane: Plane, axis: int) -> bool:
    """Whether the labels are the same along an axis; WILD agrees with nothing here."""
    if plane.shape[axis] <= 1 or plane.stride(axis) == 0:
        return True
    return _constant_along(distinct(plane), axis % plane.dim())


def varying(plane: Plane) -> list[int]:
    """The axes along which labels differ."""
    small = distinct(plane)
    return [axis for axis, n in enumerate(small.shape) if n > 1 and not _constant_along(small, axis)]


def distinct(plane: Plane) -> npt.NDArray[np.int64]:
    """The labels without the axes along which they repeat by stride (length 1 there); shares memory."""
    cut = tuple(
        slice(0, 1) if stride == 0 and n > 1 else slice(None)
        for n, stride in zip(plane.shape, plane.stride(), strict=True)
    )
    return np.asarray(plane.numpy()[cut], dtype=np.int64)


def _constant_along(labels: npt.NDArray[np.int64], axis: int) -> bool:
    lead = (slice(None),) * axis
    return bool((labels[(*lead, slice(1, None))] == labels[(*lead, slice(0, -1))]).all())


def first(plane: Plane, axes: Sequence[int], *, wild: bool = False) -> Plane:
    """One label for each line along `axes` (kept with size 1): the first, or one that is not WILD."""
    for axis in axes:
        if plane.shape[axis] == 0:
            shape = [1 if d == axis else n for d, n in enumerate(plane.shape)]
            plane = torch.full((), WILD).expand(shape)
        elif wild and plane.stride(axis) != 0:
            (small,) = compact([plane])
            low = small.amin(axis, keepdim=True)
            plane = low.expand([1 if d == axis else n for d, n in enumerate(plane.shape)])
        else:
            plane = plane.narrow(axis, 0, 1)
    return plane


def negate(planes: Sequence[Plane], *, wild: bool = False) -> tuple[Plane, ...]:
    """The labels of 1 / x."""
    out = []
    for plane in planes:
        (small,) = compact([plane])
        flipped = torch.where(small == WILD, WILD, -small) if wild else -small
        out.append(flipped.expand(plane.shape))
    return tuple(out)


def spread(planes: Sequence[Plane], shape: Sequence[int]) -> tuple[Plane, ...]:
    """Broadcasts planes to a shape."""
    return tuple(plane.expand(tuple(shape)) for plane in planes)


def broadcast(*shapes: Sequence[int]) -> torch.Size:
    """The common shape of broadcast operands."""
    return torch.Size(torch.broadcast_shapes(*map(tuple, shapes)))  # type: ignore[no-untyped-call]


def same(a: Plane, b: Plane) -> bool:
    """Whether two planes are known to be equal without looking at their labels."""
    if a is b:
        return True
    return (
        a.data_ptr() == b.data_ptr()
        and a.shape == b.shape
        and all(n <= 1 or s == t for n, s, t in zip(a.shape, a.stride(), b.stride(), strict=True))
    )


def alike(a: Shadow, b: Shadow) -> bool:
    """Whether two shadows have the same labels."""
    if a is b:
        return True
    if a.wild != b.wild or (a.view is None) != (b.view is None):
        return False
    left, right = [(*s.scale, *s.dim, *(s.view.coords if s.view else ())) for s in (a, b)]
    sizes = [(len(s.scale), len(s.dim), s.view and s.view.param) for s in (a, b)]
    return sizes[0] == sizes[1] and all(map(_equal, left, right))


def _equal(p: Plane, q: Plane) -> bool:
    if same(p, q):
        return True
    return p.shape == q.shape and torch.equal(*compact([p, q]))

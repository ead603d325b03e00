"""Labels: what two planes say of each other, and which of two equal labels to keep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mtcore.trace.planes import WILD, Plane, compact, distinct, varying
from mtcore.trace.relations import Ints, flat, unique


def nameless(plane: Plane) -> bool:
    """Whether it tells no channels apart: one label everywhere, of a scalar or of nothing."""
    labels = distinct(plane)
    return labels.size <= 1 or bool((labels == labels.flat[0]).all())


def decides(p: Plane, q: Plane) -> bool:
    """Whether places with one label in `p` have one in `q`."""
    a, b = _side_by_side(p, q)
    return len(unique(a << 32 ^ b)) == len(unique(a))


def one_to_one(p: Plane, q: Plane) -> bool:
    """Whether two planes divide their places in the same way."""
    return decides(p, q) and decides(q, p)


def _side_by_side(p: Plane, q: Plane) -> tuple[Ints, Ints]:
    a, b = (np.where(labels == WILD, 0, labels) for labels in map(flat, compact([p, q])))
    return np.abs(a), np.abs(b)


def older(p: Plane, q: Plane) -> bool:
    """Whether the parameters that `p` names were used before those of `q`.

    Of labels that are known to be equal the older ones are kept, so that a residual stream is named by what began
    it, and not by each block anew.
    """
    return _first_label(p) < _first_label(q)


def _first_label(plane: Plane) -> int:
    labels = distinct(plane)
    return abs(int(labels.flat[0])) if labels.size else 0


def finer_first(p: Plane, q: Plane) -> tuple[Plane, Plane]:
    """The plane that tells more channels apart; of equals the older one."""
    mine, its = set(varying(p)), set(varying(q))
    return (q, p) if mine < its or (mine == its and older(q, p)) else (p, q)


def varies_less(p: Plane, q: Plane) -> bool:
    return set(varying(p)) < set(varying(q))


def pick_channel(p: Plane, q: Plane) -> Plane:
    """`p`, or `q` where `p` names no channel."""
    a, b = compact([p, q])
    if bool(((a != 0) & (a != WILD)).all()):
        return p
    return torch.where((a == 0) | (a == WILD), b, a).expand(p.shape)


def agrees(plane: Plane, line: Plane, *, wild: bool) -> bool:
    a, b = compact([plane, line.expand(plane.shape)])
    equal = a == b
    return bool((equal | (a == WILD)).all() if wild else equal.all())


def all_wild(planes: Sequence[Plane]) -> bool:
    return any(bool((distinct(p) == WILD).all()) for p in planes)


def filled(few: Sequence[Plane], many: Sequence[Plane]) -> tuple[Plane, ...]:
    """`few`, with the labels of `many` where any plane of `few` is WILD."""
    small = compact([*few, *many])
    few_s, many_s = small[: len(few)], small[len(few) :]
    wild = torch.stack([p == WILD for p in few_s]).any(0)
    out = []
    for i, q in enumerate(many_s):
        p = few_s[i] if i < len(few_s) else torch.zeros_like(q)
        out.append(torch.where(wild, q, p).expand(many[i].shape))
    return tuple(out)


def dropped(plane: Plane, axes: Sequence[int]) -> Plane:
    for axis in sorted({a % plane.dim() for a in axes}, reverse=True):
        plane = plane.squeeze(axis)
    return plane

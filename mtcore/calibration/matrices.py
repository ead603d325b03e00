"""Matrices of linear layers and stacked experts: where their columns lie, which channels of a fold these are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mtcore.calibration.quantizers import WeightKey, weight_name
from mtcore.plan import ModulePlan, Plan
from mtcore.trace import FoldGroup, Slices
from mtcore.trace.relations import Ints
from mtcore.trace.slices import whole_range


@dataclass(frozen=True)
class Columns:
    """How many columns a matrix has, and on which axis of the parameter they lie."""

    count: int
    axis: int = 1


def linear_columns(module: ModulePlan) -> dict[WeightKey, Columns]:
    """Those of a linear layer whose weight is quantized; empty for another module."""
    if module.spec != "nn.Linear" or module.slot("weight") is None:
        return {}
    return {(module.name, "weight"): Columns(dict(module.shapes)["weight"][1])}


def stacks_of(module: ModulePlan) -> dict[str, dict[WeightKey, Columns]]:
    """The matrices of a module's quantized stacks, by parameter; empty for a module without stacks."""
    shapes, found = dict(module.shapes), {}
    for parameter, fact in module.facts:
        shape = shapes.get(parameter, ())
        if len(shape) == 3 and module.slot(parameter) is not None:
            columns = Columns(shape[3 - fact[0]], 3 - fact[0])
            found[parameter] = {(module.name, f"{parameter}.{expert}"): columns for expert in range(shape[0])}
    return found


def planned_columns(plan: Plan) -> dict[WeightKey, Columns]:
    """Of every quantized matrix, in the order of `matrix_layers`."""
    found: dict[WeightKey, Columns] = {}
    for module in plan.quantized:
        found |= linear_columns(module)
    for module in plan.quantized:
        for matrices in stacks_of(module).values():
            found |= matrices
    return found


def channels_by_matrix(side: Slices, columns: Mapping[WeightKey, Columns]) -> Iterator[tuple[WeightKey, Tensor]]:
    """The matrices all of whose columns a side of a fold reaches, with the channel of each column, int64 [cols]."""
    module, _, parameter = side.parameter.rpartition(".")
    places, channels = side.places.numpy(), side.channel_numbers.numpy()
    if (one := columns.get((module, parameter))) is not None:
        parts = [(parameter, places, channels)] if side.axes == (one.axis,) else []
    elif (one := columns.get((module, f"{parameter}.0"))) is not None and side.axes == (0, one.axis):
        experts = places // one.count
        order = np.argsort(experts, kind="stable")
        starts = np.flatnonzero(np.diff(experts[order], prepend=-1))
        runs = [order[start:end] for start, end in zip(starts, [*starts[1:], len(order)], strict=True)]
        parts = [(f"{parameter}.{experts[run[0]]}", places[run] % one.count, channels[run]) for run in runs]
    else:
        return
    for slot, inside, numbers in parts:
        found = np.full(one.count, -1)  # torch would wake all its threads for this
        found[inside] = numbers
        if (found >= 0).all():
            every = whole_range(one.count)
            yield (module, slot), every if np.array_equal(found, every.numpy()) else torch.from_numpy(found)


def apart(
    group: FoldGroup, consumers: Mapping[WeightKey, Tensor]
) -> Iterator[tuple[FoldGroup, dict[WeightKey, Tensor]]]:
    """A fold, or its parts where some matrices have no channel in common with others: so are experts of a stack.

    As a list of layers each of them would have a fold of its own. Channels of none are in no part.
    """
    owner, members = np.full(group.size, -1), list[list[WeightKey]]()
    for key, channels in consumers.items():
        known = [int(part) for part in np.unique(owner[channels.numpy()]) if part >= 0]
        first = known[0] if known else len(members)
        members += [] if known else [[]]
        for part in known[1:]:
            owner[owner == part] = first
            members[first] += members[part]
            members[part] = []
        owner[channels.numpy()] = first
        members[first].append(key)
    parts = [part for part, keys in enumerate(members) if keys]
    if len(parts) == 1:
        yield group, dict(consumers)
        return
    sizes = np.bincount(owner[owner >= 0], minlength=len(members))
    within = np.empty(group.size, np.int64)
    for part in parts:
        within[owner == part] = np.arange(sizes[part])
    up, down = ([_by_part(side, owner, within) for side in sides] for sides in (group.up, group.down))
    for part in parts:
        name = f"{group.name}: {' + '.join(map(weight_name, members[part]))}"
        sides = [tuple(found[part] for found in several if part in found) for several in (up, down)]
        own = {key: torch.from_numpy(within[consumers[key].numpy()]) for key in consumers if key in members[part]}
        yield FoldGroup(name, int(sizes[part]), sides[0], sides[1]), own


def _by_part(side: Slices, owner: Ints, within: Ints) -> dict[int, Slices]:
    """A side's slices by the part that owns their channel, which have other numbers there."""
    places, channels = side.places.numpy(), side.channel_numbers.numpy()
    order = np.argsort(owner[channels], kind="stable")
    parts = owner[channels[order]]
    starts = np.flatnonzero(np.diff(parts, prepend=-2))
    found = {}
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        run = order[start:end]
        indices, numbers = tuple(places[run].tolist()), tuple(within[channels[run]].tolist())
        found[int(parts[start])] = replace(side, indices=indices, channels=numbers)
    return found

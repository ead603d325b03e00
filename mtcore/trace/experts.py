"""Experts: stacked matrices of which a router chooses some; one goes together with its row of the router."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch import nn

from mtcore.trace.arena import Arena, Role
from mtcore.trace.channels import SEARCHABLE, BlockGroup, SymGroup
from mtcore.trace.relations import Edges, RelationStore, unique
from mtcore.trace.slices import Slices


def expert_groups(model: nn.Module, arena: Arena, store: RelationStore) -> Iterator[BlockGroup]:
    """A group for every choice among the rows of a parameter that has stacks of as many matrices beside it.

    What is chosen by a row is read off the shapes: the stacks of the innermost module around the router that has
    any of this length. That they are the ones is for `check_removal` to prove.
    """
    for module, routers in choices_among_rows(arena, store).items():
        count = routers[0].size
        for around in ancestors(arena.names[routers[0].param]):
            stacks = list(stacks_of(model.get_submodule(around), around, count))
            if stacks:
                rows = _rows(model, [arena.names[r.param] for r in routers if r.size == count], count)
                members = tuple(_first_axis(name, count) for name in (*rows, *stacks))
                yield BlockGroup(SymGroup.name_of(members), count, members, SEARCHABLE, "", chosen_in=module)
                break


def choices_among_rows(arena: Arena, store: RelationStore) -> dict[str, list[Role]]:
    """Module → the parameters whose rows are the alternatives of a choice that it makes."""
    found: dict[str, list[Role]] = {}
    for module, role, count in alternatives(arena, store, store.choices):
        if count == role.size:
            known = found.setdefault(module, [])
            if role not in known:
                known.append(role)
    return found


def alternatives(arena: Arena, store: RelationStore, marked: Edges) -> Iterator[tuple[str, Role, int]]:
    """(module, role, count): that many neighbouring rows of a parameter are the alternatives of its choice."""
    nodes, _, sites = marked.arrays()
    for site in unique(sites).tolist():
        offered = unique(nodes[sites == site])
        for role in arena.roles:
            first, end = np.searchsorted(offered, (role.base, role.base + role.size))
            count = int(end - first)
            if len(role.axes) == 1 and count > 1 and offered[end - 1] - offered[first] == count - 1:
                yield store.sites[site].module, role, count


def ancestors(parameter: str) -> Iterator[str]:
    """The modules around a parameter, innermost first, the model itself left out."""
    name = parameter.rpartition(".")[0]
    while name:
        yield name
        name = name.rpartition(".")[0]


def stacks_of(module: nn.Module, prefix: str, count: int) -> Iterator[str]:
    """Parameters of modules that hold a stack of `count` matrices; their biases [count, rows] too."""
    for name, child in module.named_modules(prefix=prefix):
        own = dict(child.named_parameters(recurse=False))
        if any(p.dim() == 3 and p.shape[0] == count for p in own.values()):
            yield from (f"{name}.{n}" for n, p in own.items() if p.dim() > 1 and p.shape[0] == count)


def _rows(model: nn.Module, routers: Sequence[str], count: int) -> list[str]:
    """The routers, and the parameters beside them that have as many rows: biases."""
    found: list[str] = []
    for router in routers:
        owner = router.rpartition(".")[0]
        own = model.get_submodule(owner).named_parameters(prefix=owner, recurse=False)
        found += [name for name, p in own if p.dim() and p.shape[0] == count and name not in found]
    return found


def _first_axis(name: str, count: int) -> Slices:
    return Slices(name, (0,), tuple(range(count)), tuple(range(count)))

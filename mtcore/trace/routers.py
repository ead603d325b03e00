"""Routers: modules whose outputs are the alternatives of a choice among experts, whatever their names or types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from torch import nn
from torch.nn.modules.conv import _ConvNd

from mtcore.trace.arena import Arena
from mtcore.trace.copies import Copies, copies_of
from mtcore.trace.experts import alternatives, ancestors, stacks_of
from mtcore.trace.relations import RelationStore


@dataclass(frozen=True)
class Router:
    """A module that chooses among experts.

    Attributes:
        module: dotted name of the one whose parameters have a row for every expert, and perhaps more: for experts
            that all tokens go through, or for a token that goes through none.
        count: of the experts.
        experts: dotted name of the list of modules, or of a module with a stack of matrices or with matrices that
            are used in as many pieces, that has as many.
    """

    module: str
    count: int
    experts: str


def routers_of(
    model: nn.Module, arena: Arena, store: RelationStore, copies: Copies, called: Iterable[str]
) -> tuple[Router, ...]:
    """The routers of a model, those in blocks that repeat others too. `called`: modules, by their first call.

    The largest of the rows of a parameter, or of some neighbouring ones, are taken (top-k, sort, argmax, a maximum
    whose place is used), and beside it, in the innermost module that has any, there are as many experts, which run
    later: what is ranked without experts (classes, a codebook) is no router's. Where no module has as many, one
    alternative may stand for no expert. Layers lie in a list of modules too: such a list is taken for experts only
    where it has as many, and of a maximum never.
    """
    turns = {name: turn for turn, name in enumerate(called)}
    pieces = _pieces(arena, store)
    found: dict[str, Router] = {}
    for marked in (store.choices, store.picks):
        for _, role, ranked in alternatives(arena, store, marked):
            parameter = arena.names[role.param]
            module = parameter.rpartition(".")[0]
            router = _router_of(model, module, ranked, turns, pieces, lists=marked is store.choices)
            if router is not None:
                found.setdefault(router.module, router)
                for home, name in copies_of(parameter, copies):
                    copy = _renamed(router, home, name)
                    found.setdefault(copy.module, copy)
    return tuple(found.values())


def _router_of(
    model: nn.Module, module: str, ranked: int, turns: Mapping[str, int], pieces: Mapping[str, int], *, lists: bool
) -> Router | None:
    """The module as a router, if there are experts for all alternatives, or else for all but one."""
    for count in (ranked, ranked - 1):
        if count > 1:
            in_lists = lists and count == ranked
            experts = _experts_beside(model, module, count, turns, pieces, lists=in_lists)
            if experts is not None:
                return Router(module, count, experts)
    return None


def _pieces(arena: Arena, store: RelationStore) -> dict[str, int]:
    """Matrices that are used in pieces of equal height → how many there are of these."""
    found = {}
    for param, runs in store.pieces.items():
        rows, heights = arena.shapes[param][0], {last + 1 - first for first, last in runs}
        height = min(heights)
        if len(heights) == 1 and not rows % height and not any(first % height for first, _ in runs):
            found[arena.names[param]] = rows // height
    return found


def _renamed(router: Router, home: str, name: str) -> Router:
    """The same in the block `name`, which repeats `home`."""
    inside = f"{router.experts}.".startswith(f"{home}.")
    experts = name + router.experts.removeprefix(home) if inside else router.experts
    return replace(router, module=name + router.module.removeprefix(home), experts=experts)


def _experts_beside(
    model: nn.Module, router: str, count: int, turns: Mapping[str, int], pieces: Mapping[str, int], *, lists: bool
) -> str | None:
    """The name of what holds `count` experts, in the innermost module around the router that has any."""
    for around in (*ancestors(f"{router}.x"), ""):
        module = model.get_submodule(around)
        inside: Iterable[tuple[str, nn.Module]] = module.named_modules(prefix=around)
        for name, child in inside:
            if lists and isinstance(child, nn.ModuleList | nn.ModuleDict) and len(child) == count:
                members = [f"{name}.{member}" if name else member for member, _ in child.named_children()]
                if all(map(_has_parameters, child.children())) and _all_later(members, router, turns):
                    return name
        inner = f"{around}." if around else ""
        cut = (name for name, number in pieces.items() if number == count and name.startswith(inner))
        for parameter in (*stacks_of(module, around, count), *cut):
            owner = parameter.rpartition(".")[0]
            around_both = not owner or f"{router}.".startswith(f"{owner}.")
            if isinstance(model.get_submodule(owner), _ConvNd):
                continue
            if around_both or _all_later([owner], router, turns):
                return owner
    return None


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _all_later(modules: Iterable[str], router: str, turns: Mapping[str, int]) -> bool:
    """Whether none of them ran before the router, which blocks around it and layers in front of a head did."""
    return all(turns.get(module, len(turns)) > turns.get(router, -1) for module in modules)

"""Routers: modules whose outputs are the alternatives of a choice among experts, whatever their names or types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from torch import nn
from torch.nn.modules.conv import _ConvNd

from mtcore.trace.arena import Arena
from mtcore.trace.copies import Copies, copies_of
from mtcore.trace.experts import ancestors, choices_among_rows, stacks_of
from mtcore.trace.relations import RelationStore


@dataclass(frozen=True)
class Router:
    """A module that chooses among experts.

    Attributes:
        module: dotted name of the one whose parameters have a row for every expert.
        count: of the experts.
        experts: dotted name of the list of modules, or of a module with a stack of matrices, that has as many.
    """

    module: str
    count: int
    experts: str


def routers_of(
    model: nn.Module, arena: Arena, store: RelationStore, copies: Copies, called: Iterable[str]
) -> tuple[Router, ...]:
    """The routers of a model, those in blocks that repeat others too. `called`: modules, by their first call.

    The largest of the rows of a parameter are taken (top-k, sort, argmax), and beside it, in the innermost module
    that has any, there are as many experts, which run later: what is ranked without experts (classes, a codebook)
    is no router's.
    """
    turns = {name: turn for turn, name in enumerate(called)}
    found: dict[str, Router] = {}
    for ranked in choices_among_rows(arena, store).values():
        for role in ranked:
            parameter = arena.names[role.param]
            module = parameter.rpartition(".")[0]
            experts = _experts_beside(model, module, role.size, turns)
            if experts is not None:
                router = Router(module, role.size, experts)
                found.setdefault(module, router)
                for home, name in copies_of(parameter, copies):
                    copy = _renamed(router, home, name)
                    found.setdefault(copy.module, copy)
    return tuple(found.values())


def _renamed(router: Router, home: str, name: str) -> Router:
    """The same in the block `name`, which repeats `home`."""
    inside = f"{router.experts}.".startswith(f"{home}.")
    experts = name + router.experts.removeprefix(home) if inside else router.experts
    return replace(router, module=name + router.module.removeprefix(home), experts=experts)


def _experts_beside(model: nn.Module, router: str, count: int, turns: Mapping[str, int]) -> str | None:
    """The name of what holds `count` experts, in the innermost module around the router that has any."""
    for around in (*ancestors(f"{router}.x"), ""):
        module = model.get_submodule(around)
        inside: Iterable[tuple[str, nn.Module]] = module.named_modules(prefix=around)
        for name, child in inside:
            if isinstance(child, nn.ModuleList | nn.ModuleDict) and len(child) == count:
                members = [f"{name}.{member}" if name else member for member, _ in child.named_children()]
                if all(map(_has_parameters, child.children())) and _all_later(members, router, turns):
                    return name
        for parameter in stacks_of(module, around, count):
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

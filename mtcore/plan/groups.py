"""Scale groups: slots that share one per-tensor amax because their modules read the same value."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from torch import nn

from mtcore.plan.plan import ModulePlan, ScaleGroup
from mtcore.trace import SharedInputGroup


def scale_groups(
    modules: Sequence[ModulePlan], shared: Iterable[SharedInputGroup], lists: Collection[str] = ()
) -> tuple[tuple[ModulePlan, ...], tuple[ScaleGroup, ...]]:
    """Join the slots of modules that read one value, where their format has a scale for the whole tensor.

    Their `input` slots see the same numbers and get one amax. A server fuses such modules into one product (q, k
    and v; gate and up), where it keeps a single per-tensor scale for their weights, but only siblings inside one
    module: so their `weight` slots get one amax among `siblings`.

    Args:
        lists: dotted names of lists of modules, whose members are no siblings.

    Returns:
        The modules with their slots' `group` filled in, and the groups of two or more.
    """
    by_name = {module.name: module for module in modules}
    groups: list[ScaleGroup] = []
    for reader in shared:
        present = [by_name[name] for name in reader.modules if name in by_name]
        for slot in ("weight", "input"):
            for alike in _same_setting(present, slot):
                for members in siblings(alike, lists) if slot == "weight" else (alike,):
                    group = ScaleGroup(
                        f"{members[0]}.{slot}", slot, tuple(members), f"they read one value ({reader.name})"
                    )
                    groups.append(group)
                    for name in members:
                        by_name[name] = _join(by_name[name], slot, group.name)
    return tuple(by_name[module.name] for module in modules), tuple(groups)


def lists_of(model: nn.Module) -> set[str]:
    """Dotted names of the lists and dicts of modules in a model, whose members are no `siblings`."""
    return {name for name, module in model.named_modules() if isinstance(module, nn.ModuleList | nn.ModuleDict)}


def siblings(names: Sequence[str], lists: Collection[str] = (), around: str = "") -> Iterator[Sequence[str]]:
    """The names of two or more modules parted into those inside one module each, the nearest around them.

    Those that are alone in their parts stay together in the module around all of them, but for members of a list.

    Example:
        >>> list(siblings(["a.q.base", "a.k.base", "b.c.q", "b.c.k", "b.up"]))
        [['a.q.base', 'a.k.base'], ['b.c.q', 'b.c.k']]
        >>> list(siblings(["dec.0.k", "dec.0.v", "dec.1.k", "dec.1.v"], lists={"dec"}))
        [['dec.0.k', 'dec.0.v'], ['dec.1.k', 'dec.1.v']]
    """
    start = f"{around}." if around else ""
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(name.removeprefix(start).partition(".")[0], []).append(name)
    alone = [members[0] for members in parts.values() if len(members) == 1]
    for part, members in parts.items():
        if len(members) > 1:
            yield from siblings(members, lists, f"{start}{part}")
    if len(alone) > 1 and around not in lists:
        yield alone


def _same_setting(modules: Iterable[ModulePlan], slot: str) -> list[list[str]]:
    """Names of two or more modules of one format, mode and constant amax in a slot with a per-tensor scale."""
    found: dict[tuple[object, ...], list[str]] = {}
    for module in modules:
        planned = module.slot(slot)
        if planned is None or not planned.format.needs_tensor_amax or planned.mode == "dynamic":
            continue
        found.setdefault((planned.format, planned.mode, planned.amax), []).append(module.name)
    return [names for names in found.values() if len(names) > 1]


def _join(module: ModulePlan, slot: str, group: str) -> ModulePlan:
    slots = tuple(replace(s, group=group) if s.slot == slot else s for s in module.slots)
    return replace(module, slots=slots)

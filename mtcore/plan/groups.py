"""Scale groups: slots that share one per-tensor amax because their modules read the same value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mtcore.plan.plan import ModulePlan, ScaleGroup
from mtcore.trace import SharedInputGroup


def scale_groups(
    modules: Sequence[ModulePlan], shared: Iterable[SharedInputGroup]
) -> tuple[tuple[ModulePlan, ...], tuple[ScaleGroup, ...]]:
    """Join the slots of modules that read one value.

    Such modules are what a server fuses into one product (q, k and v; gate and up), where it keeps a single
    per-tensor scale for weights and inputs. So their `weight` and `input` slots, where the format has a scale for
    the whole tensor and is the same, get one amax.

    Returns:
        The modules with their slots' `group` filled in, and the groups of two or more.
    """
    by_name = {module.name: module for module in modules}
    groups: list[ScaleGroup] = []
    for reader in shared:
        present = [by_name[name] for name in reader.modules if name in by_name]
        for slot in ("weight", "input"):
            for members in _same_setting(present, slot):
                group = ScaleGroup(
                    f"{members[0]}.{slot}", slot, tuple(members), f"they read one value ({reader.name})"
                )
                groups.append(group)
                for name in members:
                    by_name[name] = _join(by_name[name], slot, group.name)
    return tuple(by_name[module.name] for module in modules), tuple(groups)


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

"""A plan for people: a table of modules with identical layers folded, shared scales, findings, coverage."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from rich.text import Text

from mtcore.cli.views import print_table
from mtcore.files import show_bytes
from mtcore.plan.fold import fold_names, folded, skeleton
from mtcore.recipe.setting import when

if TYPE_CHECKING:
    from rich.console import Console

    from mtcore.plan.plan import ModulePlan, Plan, ScaleGroup, SlotPlan

T = TypeVar("T")
_STYLE = {"error": "bold red", "warning": "yellow", "note": "dim"}


def draw_plan(console: Console, plan: Plan, *, every_module: bool = False) -> None:
    """Prints the plan; unless `every_module`, modules that differ only in their names' numbers share a line."""
    _draw_modules(console, plan.modules, every_module)
    _draw_groups(console, plan.groups, every_module)
    draw_findings(console, plan, notes=every_module)
    draw_coverage(console, plan)


def draw_findings(console: Console, plan: Plan, *, notes: bool = False) -> None:
    """Prints what a user should know before the run; with `notes`, every one of them."""
    shown = [finding for finding in plan.findings if notes or finding.level != "note"]
    hidden = len(plan.findings) - len(shown)
    for level, same in groupby(shown, key=lambda finding: finding.level):
        told = [(finding.where, finding.message) for finding in same]
        for where, message in told if notes else folded(told):
            console.print(_line(level, where, message), soft_wrap=True)
    if hidden:
        console.print(f"[dim]{hidden} notes; `mtopt plan --all` shows them[/]")


def draw_coverage(console: Console, plan: Plan) -> None:
    """Prints how much of the weights is quantized, and how much is left out although no rule says so."""
    cover = plan.coverage
    unexplained = f"; {cover.unexplained:,} untouched although no rule says so" if cover.unexplained else ""
    console.print(
        f"[bold]{cover.share:.1%}[/] of the matrix weights quantized "
        f"({cover.quantized:,} of {cover.total:,} elements){unexplained}"
    )
    branches = [module.branch_bytes for module in plan.quantized if module.low_rank]
    if branches:
        console.print(f"low-rank branches in 16 bits: {len(branches)} modules, {show_bytes(sum(branches))} in all")
    carried = sum(module.pre_quant_scale for module in plan.quantized)
    if carried:
        console.print(f"scales of inputs that no fold takes (pre_quant_scale): {carried} modules keep them")


def module_rows(modules: Iterable[ModulePlan], *, every_module: bool) -> list[tuple[str, ...]]:
    """Rows of (modules, how many, what they are, quantized as, why), in the order of the plan."""
    rows: list[tuple[str, ...]] = []
    for same in _grouped(modules, lambda module: module.name if every_module else _likeness(module)):
        first = same[0]
        shapes = ", ".join("x".join(map(str, shape)) for _, shape in first.shapes)
        slots = "\n".join((*map(_slot_text, first.slots), *_extras(first))) or "-"
        name = fold_names([module.name for module in same]) or "(the model itself)"
        rows.append((name, str(len(same)), f"{first.type} {shapes}", slots, first.reason))
    return rows


def group_rows(groups: Sequence[ScaleGroup], *, every_module: bool) -> list[tuple[str, ...]]:
    """Rows of (modules, how many such groups, slots, why); slots of the same modules share a row."""
    slots: dict[tuple[str, ...], list[str]] = {}
    for group in groups:
        slots.setdefault(group.modules, []).append(group.slot)

    def likeness(group: ScaleGroup) -> Hashable:
        if every_module:
            return group.modules
        return (*map(skeleton, group.modules), skeleton(group.why), *slots[group.modules])

    rows: list[tuple[str, ...]] = []
    for same in _grouped(groups, likeness):
        members = dict.fromkeys(group.modules for group in same)
        names = "\n".join(fold_names(column) for column in zip(*members, strict=True))
        why = fold_names([group.why for group in same])
        rows.append((names, str(len(members)), ", ".join(slots[same[0].modules]), why))
    return rows


def _draw_modules(console: Console, modules: Sequence[ModulePlan], every_module: bool) -> None:
    columns = ("modules", "count", "what they are", "quantized as", "why")
    print_table(console, columns, module_rows(modules, every_module=every_module))
    console.print()


def _draw_groups(console: Console, groups: Sequence[ScaleGroup], every_module: bool) -> None:
    if groups:
        columns = ("share one outer scale", "count", "slots", "why")
        print_table(console, columns, group_rows(groups, every_module=every_module))
        console.print()


def _slot_text(slot: SlotPlan) -> str:
    return f"{slot.slot} {slot.format.name} ({when(slot.mode, slot.amax)})"


def _extras(module: ModulePlan) -> Iterator[str]:
    if module.pre_quant_scale:
        yield "input scaled on the layer (pre_quant_scale)"
    if module.low_rank:
        yield f"branch of rank {module.low_rank} in 16 bits ({show_bytes(module.branch_bytes)})"


def _likeness(module: ModulePlan) -> Hashable:
    """What modules must have in common to share a line."""
    slots = tuple((slot.slot, slot.format.name, slot.mode, slot.amax, slot.rule) for slot in module.slots)
    return skeleton(module.name), module.type, module.shapes, slots, module.extras, skeleton(module.reason)


def _grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Items with one key together, in the order in which the keys appear first."""
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def _line(level: str, where: str, message: str) -> Text:
    return Text.assemble((level, _STYLE[level]), f" {where}: {message}" if where else f" {message}")

"""What attention quantizes, as a checkpoint sees it: keys and values of the cache, and queries beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mtcore.formats import TensorFormat
from mtcore.plan import ModulePlan, Plan, SlotPlan
from mtopt_hf.checkpoint.some import some

ATTENTION = "attention"
"""The record of modules that compute attention."""

CACHE_SLOTS = ("k", "v")
QUERY = "q"
_CLASS = "Attention"  # what vLLM and compressed-tensors go by

AttentionSlot = tuple[ModulePlan, SlotPlan]


@dataclass(frozen=True)
class CacheForm:
    """A format of keys and values that a dialect has, and the formats of queries that it has beside it."""

    format: TensorFormat
    queries: tuple[TensorFormat, ...] = ()


def cache_slots(plan: Plan) -> tuple[AttentionSlot, ...]:
    """Keys and values that attention quantizes, with the module that does."""
    return tuple((module, slot) for module in _attention(plan) for slot in module.slots if slot.slot in CACHE_SLOTS)


def query_slots(plan: Plan, forms: Sequence[CacheForm]) -> tuple[AttentionSlot, ...]:
    """Queries that a dialect with these forms can say; all of them or none, for one configuration speaks for all.

    They need a cache that it can say, in every module that has one, and scales that are as fixed as its own; and
    classes with names by which clients know attention.
    """
    cached = [module for module in _attention(plan) if any(slot.slot in CACHE_SLOTS for slot in module.slots)]
    found = [(module, slot) for module in cached if (slot := module.slot(QUERY)) is not None]
    if not cached or len(found) != len(cached):
        return ()
    known = {form.format.name: form.queries for form in forms}
    keys = {slot.format.name for _, slot in cache_slots(plan)}
    fixed = all(slot.mode != "dynamic" and module.type.endswith(_CLASS) for module, slot in found)
    said = all(slot.format in known.get(name, ()) for _, slot in found for name in keys)
    return tuple(found) if fixed and said else ()


def attention_problems(plan: Plan, dialect: str, forms: Sequence[CacheForm]) -> Iterator[str]:
    """What keeps keys and values from being written, with the modules that have it."""
    found: dict[str, list[str]] = {}
    for module, slot in cache_slots(plan):
        for problem in _slot_problems(slot, dialect, forms):
            found.setdefault(problem, []).append(module.name)
    yield from (f"{some(names)}: {problem}" for problem, names in found.items())
    half = [m.name for m in _attention(plan) if sum(slot.slot in CACHE_SLOTS for slot in m.slots) == 1]
    if half:
        yield f"{some(half)}: {dialect} quantizes keys and values, or neither; let one rule speak of k and v"
    names = sorted({slot.format.name for _, slot in cache_slots(plan)})
    if len(names) > 1:
        yield f"{dialect} has one format for the whole KV cache, not {', '.join(names)}; choose one"
    if left := _left_out(plan):
        yield f"{some(left)}: {dialect} quantizes the cache of all layers or none; widen the rule on k and v"
    dropped = {id(slot) for _, slot in _dropped(plan, forms)}
    slots = [slot for module in plan.quantized for slot in module.slots]
    if slots and all(id(slot) in dropped for slot in slots):
        yield f"{dialect} has no place for anything that {slots[0].rule} quantizes, so nothing would be quantized"


def attention_notes(plan: Plan, dialect: str, forms: Sequence[CacheForm] = ()) -> Iterator[str]:
    """Quantizers of attention that the dialect has no place for. What is written does not depend on them."""
    found: dict[tuple[str, str], list[str]] = {}
    for module, slot in _dropped(plan, forms):
        found.setdefault((slot.slot, slot.format.name), []).append(module.name)
    for (slot_name, fmt), names in found.items():
        what = "queries" if slot_name == QUERY else slot_name
        yield f"{some(names)}: {dialect} has no place for {what} in {fmt}; clients leave them as they are"


def _left_out(plan: Plan) -> Iterable[str]:
    """Modules named like those with a quantized cache, but for numbers, which have none: attention of other layers.

    They are no part of the plan, for no rule reaches them; their projections are.
    """
    cached = {module.name for module, _ in cache_slots(plan)}
    like = {re.sub(r"\d+", "#", name) for name in cached}
    parents = dict.fromkeys(module.name.rpartition(".")[0] for module in plan)
    return [name for name in parents if name not in cached and re.sub(r"\d+", "#", name) in like]


def _attention(plan: Plan) -> Iterator[ModulePlan]:
    return (module for module in plan.quantized if module.spec == ATTENTION)


def _dropped(plan: Plan, forms: Sequence[CacheForm]) -> Iterator[AttentionSlot]:
    said = {id(slot) for _, slot in query_slots(plan, forms)}
    for module in _attention(plan):
        for slot in module.slots:
            if slot.slot not in CACHE_SLOTS and id(slot) not in said:
                yield module, slot


def _slot_problems(slot: SlotPlan, dialect: str, forms: Sequence[CacheForm]) -> Iterator[str]:
    formats = [form.format for form in forms]
    if slot.format not in formats:
        names = ", ".join(fmt.name for fmt in formats) or "none"
        yield (
            f"format {slot.format.name} ({slot.slot}, {slot.rule}) cannot be spelled for a KV cache in "
            f"{dialect}; it has {names}"
        )
    elif slot.mode == "dynamic":
        yield f"a KV cache in {slot.format.name} has fixed scales in {dialect}, not dynamic ones ({slot.rule})"

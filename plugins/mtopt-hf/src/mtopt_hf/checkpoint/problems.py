"""What keeps a plan from being written in a dialect: the part that all dialects ask alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from mtcore.formats import TensorFormat
from mtcore.plan import ModulePlan, Plan, SlotPlan
from mtopt_hf.checkpoint.pairs import ATTENTION, CACHE_SLOTS, LINEAR, STACKED, Pair, pairs_of

_SHOWN = 3  # modules named in one problem; a large model has thousands

PairProblems = Callable[[Pair], Iterable[str]]


def plan_problems(
    plan: Plan, dialect: str, pair_problems: PairProblems, cache_formats: Sequence[TensorFormat] = ()
) -> list[str]:
    """Problems of the plan, each with the modules that have it and what to do; empty if all can be written.

    Args:
        plan: what will be done.
        dialect: its name, for the messages.
        pair_problems: what the dialect has to say about a pair with a quantized weight.
        cache_formats: formats in which it holds keys and values.
    """
    found: dict[str, list[str]] = {}
    for module in plan.quantized:
        for problem in _module_problems(module, dialect, pair_problems, cache_formats):
            found.setdefault(problem, []).append(module.name)
    return [f"{some(modules)}: {problem}" for problem, modules in found.items()] + list(_mixed_cache(plan, dialect))


def some(names: Iterable[str]) -> str:
    """The first names, each once, and how many more there are."""
    known = list(dict.fromkeys(names))
    more = len(known) - _SHOWN
    return ", ".join(known[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _module_problems(
    module: ModulePlan, dialect: str, pair_problems: PairProblems, cache_formats: Sequence[TensorFormat]
) -> Iterator[str]:
    if module.spec == ATTENTION:
        yield from _cache_problems(module, dialect, cache_formats)
        return
    if module.spec not in (LINEAR, STACKED):
        yield f"{dialect} holds quantized linear layers and experts only, not {module.type}; exclude it"
        return
    pairs = pairs_of(module)
    known = {slot.slot for pair in pairs for slot in (pair.weight, pair.input) if slot is not None}
    for slot in module.slots:
        if slot.slot not in known:
            yield f"no client runs {slot.slot} quantizers from {dialect}; switch off the rule ({slot.rule})"
    for pair in pairs:
        if pair.weight is None:
            yield f"{dialect} holds no quantized input without a quantized weight; quantize both or none"
        else:
            yield from pair_problems(pair)


def _cache_problems(module: ModulePlan, dialect: str, formats: Sequence[TensorFormat]) -> Iterator[str]:
    for slot in module.slots:
        if slot.slot not in CACHE_SLOTS:
            yield f"no client runs {slot.slot} quantizers from {dialect}; switch off the rule ({slot.rule})"
        elif slot.format not in formats:
            names = ", ".join(fmt.name for fmt in formats) or "none"
            yield (
                f"format {slot.format.name} ({slot.slot}, {slot.rule}) cannot be spelled for a KV cache in "
                f"{dialect}; it has {names}"
            )
        elif slot.mode == "dynamic":
            yield f"a KV cache in {slot.format.name} has fixed scales in {dialect}, not dynamic ones ({slot.rule})"


def _mixed_cache(plan: Plan, dialect: str) -> Iterator[str]:
    """One configuration speaks for the whole cache."""
    slots: dict[str, SlotPlan] = {}
    half: list[str] = []
    for module in plan.quantized:
        if module.spec != ATTENTION:
            continue
        own = [slot for slot in module.slots if slot.slot in CACHE_SLOTS]
        slots |= {slot.format.name: slot for slot in own}
        half += [module.name] if len(own) == 1 else []
    if half:
        yield f"{some(half)}: {dialect} quantizes keys and values, or neither; let one rule speak of k and v"
    if len(slots) > 1:
        yield f"{dialect} has one format for the whole KV cache, not {', '.join(sorted(slots))}; choose one"

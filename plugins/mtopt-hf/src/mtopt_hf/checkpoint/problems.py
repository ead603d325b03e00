"""What keeps a plan from being written in a dialect: the part that all dialects ask alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from mtcore.plan import ModulePlan, Plan
from mtopt_hf.checkpoint.attention import ATTENTION, CacheForm, attention_problems
from mtopt_hf.checkpoint.pairs import LINEAR, STACKED, Pair, pairs_of
from mtopt_hf.checkpoint.some import some, with_remedy

PairProblems = Callable[[Pair], Iterable[str]]


def plan_problems(
    plan: Plan, dialect: str, pair_problems: PairProblems, caches: Sequence[CacheForm] = ()
) -> list[str]:
    """Problems of the plan, each with the modules that have it and what to do; empty if all can be written.

    Args:
        plan: what will be done.
        dialect: its name, for the messages.
        pair_problems: what the dialect has to say about a pair with a quantized weight.
        caches: the forms in which it holds keys and values.
    """
    found: dict[str, list[str]] = {}
    for module in plan.quantized:
        for problem in _module_problems(module, dialect, pair_problems):
            found.setdefault(problem, []).append(module.name)
    alone = [f"{some(modules)}: {with_remedy(problem, modules)}" for problem, modules in found.items()]
    return [*alone, *attention_problems(plan, dialect, caches)]


def _module_problems(module: ModulePlan, dialect: str, pair_problems: PairProblems) -> Iterator[str]:
    if module.spec == ATTENTION:
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

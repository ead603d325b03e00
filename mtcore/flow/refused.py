"""A mixture that a target refuses though it serves its parts: the fewest decisions that it refuses together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mtcore.export import UnifiedExporter
from mtcore.flow.loaded import LoadedModel
from mtcore.flow.rehearsal import rehearse
from mtcore.opt import AS_IT_IS, Solution
from mtcore.plan import Plan, without
from mtcore.plugins import Registry

_SHOWN = 3


@dataclass(frozen=True)
class Refusal:
    """Why a target does not serve a mixture, and what to do.

    Attributes:
        target: a dialect or a client.
        problem: the first thing that it says of `together`.
        together: the choice of each decision; with any of them left as it is, this problem is gone.
        alone: choices that the target serves when every decision that has one gets it.
    """

    target: str
    problem: str
    together: Mapping[str, str]
    alone: tuple[str, ...]

    @property
    def advice(self) -> str:
        by_hand = f"leave out --to {self.target} and change the recipe by hand"
        if not self.alone:
            return f"search with fewer --choices, or {by_hand}"
        named = " or ".join(f"--choices {choice}" for choice in self.alone)
        return f"search with {named}, which it serves alone, or {by_hand}"

    def __str__(self) -> str:
        parts = [f"{name} as {choice}" for name, choice in self.together.items()]
        more = f", and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
        what = f"{', '.join(parts[:_SHOWN])}{more}" if parts else "a checkpoint in which nothing is quantized"
        together = " together" if len(parts) > 1 else ""
        return f"{self.target} refuses{together} {what}: {self.problem}; {self.advice}"

    def to_json(self) -> dict[str, object]:
        return {
            "target": self.target,
            "problem": self.problem,
            "together": dict(self.together),
            "alone": list(self.alone),
            "advice": self.advice,
        }


def find_refusal(
    target: str,
    solution: Solution,
    plan: Plan,
    single: Mapping[str, Plan],
    loaded: LoadedModel,
    registry: Registry,
) -> Refusal:
    """Try parts of a mixture until what remains is refused and none of it can be left out.

    Args:
        target: refuses `plan`, by its rules or when it is rehearsed.
        plan: of the solution.
        single: by choice, the plan in which every decision that has the choice gets it.
    """
    exporter = UnifiedExporter(registry.exporters)
    by_rules = bool(exporter.target(plan, target, loaded.files).problems)
    chosen = {d.name: c for d, c in zip(solution.decisions, solution.chosen, strict=True) if c != AS_IT_IS}

    def problems(part: Plan) -> tuple[str, ...]:
        if by_rules:
            return exporter.target(part, target, loaded.files).problems
        return rehearse(loaded, part, [target], registry)[0].problems

    def problems_of(names: Sequence[str]) -> tuple[str, ...]:
        return problems(without(plan, {m for d in solution.decisions if d.name not in names for m in d.modules}))

    together = fewest(lambda names: bool(problems_of(names)), list(chosen))
    alone = tuple(choice for choice, every in single.items() if not every.errors and not problems(every))
    return Refusal(target, problems_of(together)[0], {name: chosen[name] for name in together}, alone)


def fewest(refused: Callable[[Sequence[str]], bool], names: Sequence[str]) -> list[str]:
    """Names that are refused together, of which none can be left out.

    Args:
        refused: whether names are refused; asked about few more than `2 k log n` times for k that are found.
        names: refused together.

    Example:
        >>> fewest(lambda names: {"b", "e"} <= set(names), list("abcdefg"))
        ['b', 'e']
    """
    found, step = list(names), len(names) // 2
    while step:
        start = 0
        while start < len(found):
            rest = found[:start] + found[start + step :]
            if rest and refused(rest):
                found = rest
            else:
                start += step
        step //= 2
    return found

"""A search for people: a line a decision, what was reached, and budgets side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtcore.cli.views import megabytes, print_facts, print_table
from mtcore.opt import Solution
from mtcore.plan import folded

if TYPE_CHECKING:
    from rich.console import Console

    from mtcore.flow import CheckpointSearch
    from mtcore.flow.refused import Refusal


def draw_solution(console: Console, found: CheckpointSearch, solution: Solution, out: Path | None) -> None:
    """One line a decision: its choice, and what each choice would cost; then the totals."""
    choices = tuple(found.choices.plans)
    rows = []
    for decision, chosen in zip(solution.decisions, solution.chosen, strict=True):
        costs = found.searcher.scores.get(decision.name, {})
        scores = [f"{costs[choice]:.3g}" if choice in decision.bits else "refused" for choice in choices]
        rows.append((decision.name, chosen, f"{decision.bits_per_weight(chosen):.4g}", *scores))
    print_table(console, ("layers", "choice", "bits", *choices), rows)
    refused = {(reason, choice) for decision in solution.decisions for choice, reason in decision.refused.items()}
    for reason, choice in folded(sorted(refused)):
        console.print(f"{choice} is refused: {reason}", highlight=False, markup=False, soft_wrap=True)
    facts = {
        "bits a weight": f"{solution.bits_per_weight:.4g}",
        "size": f"about {megabytes(solution.size_bytes)}",
        "cost": f"{solution.score:.4g}: {found.choices.registry.searchers[found.score].summary}",
        "weights": _shares(solution),
    }
    if out is not None:
        facts["recipe"] = f"{out} (for mtopt quantize --recipe)"
    print_facts(console, facts)


def draw_budgets(console: Console, rows: Mapping[str, Solution]) -> None:
    """One line a budget, and a line for each choice alone."""
    if rows:
        lines = [
            (name, f"{row.bits_per_weight:.4g}", megabytes(row.size_bytes), f"{row.score:.4g}", _shares(row))
            for name, row in rows.items()
        ]
        print_table(console, ("budget", "bits a weight", "size", "cost", "weights"), lines)


def draw_refusals(console: Console, refusals: Sequence[Refusal]) -> None:
    """One line a target that refuses the mixture: what, why, and what to do."""
    for refusal in refusals:
        console.print(f"No recipe was written: {refusal}", highlight=False, markup=False, soft_wrap=True)


def _shares(solution: Solution) -> str:
    """'81 % nvfp4, 19 % fp8'; most first."""
    shares = sorted(solution.shares().items(), key=lambda item: -item[1])
    return ", ".join(f"{share:.0%} {choice}" for choice, share in shares)

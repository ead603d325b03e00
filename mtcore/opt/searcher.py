"""Searcher: decisions with their scores; for any budget the choice that loses least, without running data again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mtcore.errors import MtcoreError
from mtcore.opt.decisions import AS_IT_IS, Decision
from mtcore.opt.knapsack import choose


class BudgetError(MtcoreError):
    """A budget that no choice keeps; says the least that one does."""


@dataclass(frozen=True)
class Solution:
    """What was chosen under a budget.

    Attributes:
        decisions: all of them.
        chosen: the choice of each.
        scores: what each choice costs by the searcher's measure.
        rest_bits: bits of all else in the checkpoint.
    """

    decisions: tuple[Decision, ...]
    chosen: tuple[str, ...]
    scores: tuple[float, ...]
    rest_bits: int

    @property
    def score(self) -> float:
        return sum(self.scores)

    @property
    def bits_per_weight(self) -> float:
        """Over the weights that are decided about, scales included."""
        total = sum(d.bits[choice] for d, choice in zip(self.decisions, self.chosen, strict=True))
        return total / sum(d.weights for d in self.decisions)

    @property
    def size_bytes(self) -> int:
        """Of the whole checkpoint, by the formats: what its dialect pads or adds is not counted."""
        total = sum(d.bits[choice] for d, choice in zip(self.decisions, self.chosen, strict=True))
        return -(-(total + self.rest_bits) // 8)

    def shares(self) -> dict[str, float]:
        """By choice, its share of the weights, in [0, 1]; those that are used."""
        weights = sum(d.weights for d in self.decisions)
        found: dict[str, float] = {}
        for decision, choice in zip(self.decisions, self.chosen, strict=True):
            found[choice] = found.get(choice, 0.0) + decision.weights / weights
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "bits_per_weight": self.bits_per_weight,
            "size_bytes": self.size_bytes,
            "score": self.score,
            "shares": self.shares(),
            "decisions": [
                {
                    "name": decision.name,
                    "modules": list(decision.modules),
                    "choice": choice,
                    "bits": decision.bits_per_weight(choice),
                    "score": score,
                    "refused": dict(decision.refused),
                }
                for decision, choice, score in zip(self.decisions, self.chosen, self.scores, strict=True)
            ],
        }


@dataclass(frozen=True)
class Searcher:
    """Finds the choices that lose least under a budget.

    Attributes:
        decisions: in the order of the model; at least one.
        scores: by decision and choice, what it costs; to leave a layer as it is costs nothing.
        rest_bits: bits of all in the checkpoint that is not decided about.

    Example:
        >>> bits = {AS_IT_IS: 1600, "nvfp4": 450}
        >>> decisions = (Decision(("up",), 100, bits), Decision(("down",), 100, bits))
        >>> searcher = Searcher(decisions, {"up": {"nvfp4": 0.5}, "down": {"nvfp4": 0.1}})
        >>> searcher.solve(bits=11).chosen
        ('as it is', 'nvfp4')
    """

    decisions: tuple[Decision, ...]
    scores: Mapping[str, Mapping[str, float]]
    rest_bits: int = 0

    @property
    def weights(self) -> int:
        """Elements of all weights that are decided about."""
        return sum(decision.weights for decision in self.decisions)

    @property
    def choices(self) -> tuple[str, ...]:
        """Every choice that some decision has; `AS_IT_IS` comes first."""
        return tuple(dict.fromkeys(choice for decision in self.decisions for choice in decision.bits))

    def solve(self, *, bits: float | None = None, size: int | None = None) -> Solution:
        """The choices with the least total score within a budget; exact, see `mtcore.opt.knapsack.choose`.

        Args:
            bits: a weight, on average over those that are decided about, scales included.
            size: of the checkpoint, in bytes; one of the two is given.

        Raises:
            BudgetError: not even the smallest choices keep it.
        """
        if (bits is None) == (size is None):
            raise TypeError("give bits, or size")
        if bits is not None and not math.isfinite(bits):
            raise BudgetError(f"{bits} is no number of bits a weight; give one such as 4.5")
        budget = int(bits * self.weights) if bits is not None else 8 * (size or 0) - self.rest_bits
        options = [
            [(decision.bits[choice], self._score(decision, choice)) for choice in decision.bits]
            for decision in self.decisions
        ]
        picked = choose(options, budget)
        if picked is None:
            least = self.least()
            asked, reached = (
                (f"{bits:g} bits a weight", f"{least.bits_per_weight:.4g} bits")
                if bits is not None
                else (f"{size:,} bytes", f"{least.size_bytes:,} bytes")
            )
            named = ", ".join(self.choices[1:]) or "no choice left"
            raise BudgetError(
                f"{asked} cannot be reached with {named}: the least is {reached}"
                f"{_why_least(least)}; raise the budget, or add a smaller choice"
            )
        return self.of(list(d.bits)[pick] for d, pick in zip(self.decisions, picked, strict=True))

    def uniform(self, choice: str) -> Solution:
        """One choice for all decisions that have it; the others stay as they are."""
        return self.of(choice if choice in decision.bits else AS_IT_IS for decision in self.decisions)

    def least(self) -> Solution:
        """The smallest choice of every decision."""
        return self.of(min(decision.bits, key=decision.bits.__getitem__) for decision in self.decisions)

    def of(self, chosen: Iterable[str]) -> Solution:
        """The choices as they are given, one for each decision."""
        every = tuple(chosen)
        scores = tuple(self._score(d, choice) for d, choice in zip(self.decisions, every, strict=True))
        return Solution(self.decisions, every, scores, self.rest_bits)

    def _score(self, decision: Decision, choice: str) -> float:
        return 0.0 if choice == AS_IT_IS else self.scores[decision.name][choice]


def _why_least(least: Solution) -> str:
    """The decisions that have no choice at all, where there are some."""
    stuck = [d for d in least.decisions if len(d.bits) == 1]
    if not stuck:
        return ""
    reason = next(iter(stuck[0].refused.values()))
    more = f" and {len(stuck) - 1} more" if len(stuck) > 1 else ""
    return f" ({stuck[0].name}{more} must stay: {reason})"

"""Totals: scores summed over batches, and what they come to on average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mtcore.errors import CalibrationError
from mtcore.opt.decisions import Decision
from mtcore.opt.scoring import Scores


@dataclass
class Totals:
    """Sums of scores by decision and choice over the first `batches` batches of the data."""

    batches: int = 0
    sums: Scores = field(default_factory=dict)

    def add(self, scores: Scores) -> None:
        """One batch more."""
        for name, by_choice in scores.items():
            sums = self.sums.setdefault(name, {})
            for choice, score in by_choice.items():
                sums[choice] = sums.get(choice, 0.0) + score
        self.batches += 1

    def means(self, decisions: Sequence[Decision]) -> Scores:
        """The cost of every choice, averaged over the batches.

        Raises:
            CalibrationError: a decision was never reached.
        """
        scored = [decision.name for decision in decisions if len(decision.bits) > 1]
        missing = [name for name in scored if name not in self.sums]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise CalibrationError(
                f"{missing[0]}{more}: the data never reached it, so that what rounding costs there is not known; "
                "give data that do, or recipes that leave it out"
            )
        return {
            name: {choice: total / self.batches for choice, total in by_choice.items()}
            for name, by_choice in self.sums.items()
        }

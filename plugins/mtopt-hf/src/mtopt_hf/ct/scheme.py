"""From the slots of a weight and its input to their scheme: layout, and arguments of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mtcore.plan import SlotPlan
from mtopt_hf.ct.spelling import Arguments, Layout, spelling_of


@dataclass(frozen=True)
class Scheme:
    """How one layer is written. Layers of one scheme form a group of the file's configuration."""

    layout: Layout
    weight: Arguments
    input: Arguments | None

    def to_json(self, targets: list[str]) -> dict[str, Any]:
        """The group as the dialect's JSON holds it."""
        return {
            "targets": targets,
            "weights": dict(self.weight),
            "input_activations": None if self.input is None else dict(self.input),
            "output_activations": None,
            "format": self.layout,
        }


def scheme_of(weight: SlotPlan, given: SlotPlan | None) -> Scheme:
    """The scheme of slots that `check_plan` found nothing wrong with."""
    spelling = spelling_of(weight.format)
    assert spelling is not None
    assert spelling.weight is not None
    if given is None:
        assert spelling.layout_alone is not None
        return Scheme(spelling.layout_alone, spelling.weight, None)
    of_input = spelling_of(given.format)
    assert of_input is not None
    return Scheme(spelling.layout[of_input.family], spelling.weight, of_input.activation[given.mode])

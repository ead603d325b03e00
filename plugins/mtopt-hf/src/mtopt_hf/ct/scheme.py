"""From the plan of a module to its scheme: layout, and arguments of weight and input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mtcore.plan import ModulePlan
from mtopt_hf.ct.spelling import Arguments, Layout, spelling_of


@dataclass(frozen=True)
class Scheme:
    """How one module is written. Modules of one scheme form a group of the file's configuration."""

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


def scheme_of(module: ModulePlan) -> Scheme:
    """The scheme of a module that `check_plan` found nothing wrong with."""
    weight, given = module.slot("weight"), module.slot("input")
    assert weight is not None
    spelling = spelling_of(weight.format)
    assert spelling is not None
    if given is None:
        assert spelling.layout_alone is not None
        return Scheme(spelling.layout_alone, spelling.weight, None)
    of_input = spelling_of(given.format)
    assert of_input is not None
    return Scheme(spelling.layout, spelling.weight, of_input.activation[given.mode])

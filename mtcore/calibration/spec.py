"""The record of a calibration algorithm: a name, an options class and a driver over a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import nn

from mtcore.calibration.edits import ParameterEdits
from mtcore.calibration.loop import ForwardLoop as ForwardLoop
from mtcore.calibration.statistics import Statistics, Wanted, gather
from mtcore.nn.walk import modules_by_name
from mtcore.plan.plan import Holds, Plan

if TYPE_CHECKING:
    from pydantic import BaseModel

    from mtcore.calibration.blocks import BlockInputs


LOG = logging.getLogger(__name__)

Progress = Callable[[int, str], Callable[[int], object]]
"""From how many parts there are and what they are called ("blocks"), to what is told how many more are done."""


def no_progress(total: int, unit: str) -> Callable[[int], object]:
    """Tells nobody."""
    return lambda done: None


@dataclass(frozen=True)
class CalibrationRun:
    """What a driver works on: a converted model, its plan, and what the data tell.

    Attributes:
        model: holds quantizers where the plan says so; a driver sets their amax (and only documented others).
        plan: the decisions.
        forward_loop: runs the model on the data; None where the caller gave no data.
        edits: through which a driver changes parameters, and only through it, so that they can be put back; its
            originals are the values at the start of this step.
        gathered: statistics that earlier steps share, or None.
        blocks: the blocks that a driver which goes block by block has to work on, with their inputs; None where it
            has to find and record them itself. A caller that calibrates one block at a time says which.
        first: whether no step of the recipe ran before this one. Where one did, every amax is set, and a step
            changes only those that it is about.
        progress: whom to tell how far a long step is; see `Progress`. The run of the data tells by itself.
        notes: what steps tell the user in the summary, see `note`.
    """

    model: nn.Module
    plan: Plan
    forward_loop: ForwardLoop | None
    edits: ParameterEdits = field(default_factory=ParameterEdits)
    gathered: Statistics | None = None
    blocks: Sequence[BlockInputs] | None = None
    first: bool = True
    progress: Progress = no_progress
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Tell the user in one line what a step came to: how much of the model it reached, what it left and why."""
        LOG.info("%s", text)
        self.notes.append(text)

    @cached_property
    def modules(self) -> dict[str, nn.Module]:
        """The model's modules by name, as they are when this is asked first; a shared one under all its names."""
        return modules_by_name(self.model)

    @cached_property
    def statistics(self) -> Statistics:
        """Statistics of the unquantized model: ask with `need`, then read by (module, slot)."""
        if self.gathered is not None:
            return self.gathered
        loop = self.forward_loop
        if loop is None:
            return Statistics(None)
        model, shared = self.model, self.plan.shared_inputs  # of no use to hold `self`: a cycle keeps samples alive
        root = model.get_submodule(self.blocks[0].name) if self.blocks else model
        return Statistics(lambda wanted: gather(model, loop, wanted, shared, root))


@dataclass(frozen=True)
class AlgorithmSpec:
    """One calibration algorithm.

    Attributes:
        name: what a recipe writes: "max".
        summary: one line for listings.
        options: pydantic model of its options; unknown keys are refused, so that a misspelling is found while
            planning. `mtopt algorithms NAME` shows each with its limits, its default and its meaning: the field's
            `description`, or a line `name: meaning` of the docstring.
        needs_data: whether this plan cannot be calibrated without data; `AlgorithmContract` holds the driver to it.
            It may be True for every plan where data decide about the layers that the algorithm treats: a plan with
            none of these does without.
        run: the driver.
        statistics: what it wants to know of which values; asked on the converted model, before any data runs, so
            that one run of the data serves all steps of a recipe. A driver that decides from these alone can be run
            again without data. None, or a function that returns None for these options: the driver runs the data
            itself (`run.forward_loop`).
        sequential: whether it goes block by block, and wants each block's inputs as the blocks before it, once they
            are quantized, give them.
        folds: whether the driver scales parameters through the plan's folds; these are proven on the model then,
            before any weight changes.
        cost: what it takes, in one line, for listings: runs of the data, searches, memory.
        linear_only: whether it treats the weights of linear layers alone, so that all others (stacked experts,
            convolutions, embeddings) get what `max` gives them; the plan of a recipe names these.
        experts: whether it treats stacked experts too, though else `linear_only`.
        plan: what it adds to a plan, from the plan with its proven folds, the options, and what the target can
            hold beside codes: scales that stay on layers (`ModulePlan.pre_quant_scale`), low-rank branches
            (`ModulePlan.low_rank`), and findings that say so. None: nothing.
    """

    name: str
    summary: str
    options: type[BaseModel]
    needs_data: Callable[[Plan], bool]
    run: Callable[[CalibrationRun, Any], None]
    statistics: Callable[[CalibrationRun, Any], Wanted | None] | None = None
    sequential: bool = False
    folds: bool = False
    plan: Callable[[Plan, Any, Holds], Plan] | None = None
    cost: str = ""
    linear_only: bool = False
    experts: bool = False


Batches = Iterable[Any]
"""Batches as a data loader yields them: a tensor, a tuple of positional or a dict of keyword arguments each."""

"""The record of a calibration algorithm: a name, an options class and a driver over a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

from mtcore.calibration.edits import ParameterEdits
from mtcore.plan.plan import Plan

if TYPE_CHECKING:
    from pydantic import BaseModel

ForwardLoop = Callable[[nn.Module], object]
"""Runs the model on all calibration data; what it returns is ignored."""


@dataclass(frozen=True)
class CalibrationRun:
    """What a driver works on: a converted model, its plan, and the data.

    Attributes:
        model: holds quantizers where the plan says so; a driver sets their amax (and only documented others).
        plan: the decisions.
        forward_loop: runs the model on the data; None where the caller gave no data.
        edits: through which a driver changes parameters, and only through it, so that they can be put back; its
            originals are the values at the start of this step.
    """

    model: nn.Module
    plan: Plan
    forward_loop: ForwardLoop | None
    edits: ParameterEdits = field(default_factory=ParameterEdits)


@dataclass(frozen=True)
class AlgorithmSpec:
    """One calibration algorithm.

    Attributes:
        name: what a recipe writes: "max".
        summary: one line for listings.
        options: pydantic model of its options; unknown keys are refused, so that a misspelling is found while
            planning.
        needs_data: whether this plan cannot be calibrated without a forward loop.
        run: the driver.
    """

    name: str
    summary: str
    options: type[BaseModel]
    needs_data: Callable[[Plan], bool]
    run: Callable[[CalibrationRun, Any], None]


Batches = Iterable[Any]
"""Batches as a data loader yields them: a tensor, a tuple of positional or a dict of keyword arguments each."""

"""The `rotate` algorithm: Hadamard rotations between linear maps, where numbers prove that outputs stay."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from mtcore.calibration.algorithms.max import MaxOptions, run_max
from mtcore.calibration.blocks import first_tensor
from mtcore.calibration.loop import calibration_mode
from mtcore.calibration.quantizers import disabled, planned_quantizers
from mtcore.calibration.ranks import current_ranks
from mtcore.calibration.rotating import can_rotate, can_turn, rotate, turn_stream
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun
from mtcore.errors import CalibrationError
from mtcore.plan import Plan
from mtcore.trace import FoldGroup
from mtcore.trace.bisect import failing

LOG = logging.getLogger(__name__)


class RotateOptions(BaseModel):
    """Options of `rotate`.

    largest: most channels that are turned together; a power of two.
    least: fewer than these are not worth it.
    residual: whether the channels of residual streams are turned too, all that a power of two divides.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    largest: int = Field(1024, ge=2)
    least: int = Field(16, ge=2)
    residual: bool = True


def needs_data(plan: Plan) -> bool:
    """Always: a rotation is proven on the first batch before it is made."""
    return True


def run_rotate(run: CalibrationRun, options: RotateOptions) -> None:
    """Turn the channels of residual streams and of every fold between matrices for which that is exact.

    Then set every amax as `max` does. Liu et al. 2024, "SpinQuant" (arXiv:2405.16406), section 3.2: R1 turns the
    residual stream, after what reads it has absorbed the weights of its norms; R2 what lies between values and the
    output projection of attention, for example. Nothing is asked for its name: a rotation is made, and the outputs
    on the first batch are compared. Where they change, a stream stays as it is (that of a model with LayerNorms, or
    with a head tied to its embedding); of a fold half as many channels are turned together, down to `least`. So the
    size of heads is found as well, and a group with an activation function inside is left alone.

    Raises:
        CalibrationError: no data, or data that is not finite.
    """
    if run.forward_loop is None:
        raise CalibrationError("rotate needs calibration data to prove rotations: give a forward_loop, or --calib")
    quantizers = dict(planned_quantizers(run))
    waiting = [group for group in run.plan.folds if can_rotate(run.model, group)]
    sizes = {group.name: _first_size(group.size, options) for group in waiting}
    with disabled(quantizers.values()), calibration_mode(run.model):
        wanted = _first_output(run)
        if not bool(wanted.isfinite().all()):
            raise CalibrationError("the outputs on the first batch hold NaN or infinite values: check the data")
        turned = _turn_streams(run, options, wanted) if options.residual else 0
        while waiting := [group for group in waiting if sizes[group.name] >= options.least]:
            wrong = failing(waiting, lambda some: _exact(run, some, sizes, wanted))
            for group in waiting:
                if group not in wrong:
                    rotate(run.model, run.edits, group, sizes[group.name])
                    LOG.info("rotate: %s, %d channels at a time", group, sizes[group.name])
                    turned += 1
            for group in wrong:
                sizes[group.name] //= 2
            waiting = wrong
    run.note(f"rotate: turned {turned} of {len(run.plan.folds) + len(run.plan.streams)} folds and streams")
    if turned:
        run.statistics.forget()
    run_max(run, MaxOptions())


def _turn_streams(run: CalibrationRun, options: RotateOptions, wanted: Tensor) -> int:
    """Turn the residual streams for which that is exact, one by one; gives how many there are."""
    turned = 0
    for stream in run.plan.streams:
        size = stream.size & -stream.size
        if size < options.least or not can_turn(run.model, stream):
            LOG.info("rotate: %s has no form that can be turned", stream)
            continue
        trial = run.edits.nested(keep=True)
        turn_stream(run.model, trial, stream, run.plan.folds)
        if _unchanged(run, wanted):
            LOG.info("rotate: the residual stream of %d channels, %d at a time", stream.size, size)
            turned += 1
        else:
            run.note(f"rotate: the residual stream of {stream.size} channels stays: outputs would change")
            trial.undo()
    return turned


def _first_size(channels: int, options: RotateOptions) -> int:
    """The largest power of two that divides the channels, at most `largest`."""
    return min(channels & -channels, 1 << (options.largest.bit_length() - 1))


def _exact(run: CalibrationRun, groups: Sequence[FoldGroup], sizes: dict[str, int], wanted: Tensor) -> bool:
    """Whether the outputs stay when all of these are turned; the weights are put back."""
    trial = run.edits.nested(keep=True)
    try:
        for group in groups:
            rotate(run.model, trial, group, sizes[group.name])
        return _unchanged(run, wanted)
    finally:
        trial.undo()


def _unchanged(run: CalibrationRun, wanted: Tensor) -> bool:
    """Whether the outputs on the first batch are these, but for rounding."""
    found = _first_output(run)
    change = (found - wanted).square().mean().sqrt() / wanted.square().mean().sqrt().clamp(min=1e-30)
    ranks = current_ranks()
    if ranks is not None:  # each looks at a batch of its own, and all decide the same
        change = ranks.largest(change)
    # Rounding of the turned weights and of what runs on them adds up over layers; a wrong rotation changes outputs
    # by far more. 1e-4 is a thousand units of rounding in fp32, 8 units are 6 % in bf16.
    return bool(change <= max(1e-4, 8 * torch.finfo(next(run.model.parameters()).dtype).eps))


class _FirstBatchDone(Exception):  # noqa: N818  no error
    """Ends a forward loop."""


def _first_output(run: CalibrationRun) -> Tensor:
    """What the model gives on the first batch, fp32; the block, where a caller goes block by block."""
    assert run.forward_loop is not None, "a proof needs data"
    watched = run.model.get_submodule(run.blocks[0].name) if run.blocks else run.model
    seen: list[Tensor] = []

    def stop(_: nn.Module, __: Any, output: Any) -> None:
        logits = getattr(output, "logits", None)
        seen.append((first_tensor(output) if logits is None else logits).detach().float())
        raise _FirstBatchDone

    handle = watched.register_forward_hook(stop)
    try:
        run.forward_loop(run.model)
    except _FirstBatchDone:
        return seen[0]
    finally:
        handle.remove()
    raise CalibrationError("the calibration data never reached the model")


ROTATE = AlgorithmSpec(
    "rotate",
    "turn channels between linear maps by Hadamard matrices, where outputs stay",
    RotateOptions,
    needs_data,
    run_rotate,
    folds=True,
    cost="a forward of the first batch for every rotation that is proved, and one run of the data",
)

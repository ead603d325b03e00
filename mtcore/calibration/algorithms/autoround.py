"""The `autoround` algorithm: rounding that is learned by descent, block by block or from the logits."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from mtcore.calibration.algorithms.max import MaxOptions, run_max
from mtcore.calibration.blocks import (
    WHOLE_MODEL,
    BlockCall,
    BlockInputs,
    find_blocks,
    first_tensor,
    inside,
    record_blocks,
)
from mtcore.calibration.loop import calibration_mode
from mtcore.calibration.math import (
    code_distances,
    distribution_loss,
    falling_rates,
    relative_loss,
    scaled_step,
    signed_step,
)
from mtcore.calibration.quantizers import (
    Quantizers,
    WeightKey,
    disabled,
    matrix_layers,
    planned_quantizers,
    weight_name,
    weight_place,
    weight_tensor,
)
from mtcore.calibration.ranks import current_ranks
from mtcore.calibration.scales import fix_amax, refuse_transformed
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun
from mtcore.errors import CalibrationError
from mtcore.nn.sharded import is_sharded
from mtcore.plan import Plan

LOG = logging.getLogger(__name__)


class AutoRoundOptions(BaseModel):
    """Options of `autoround`.

    scope: "blocks": each block learns to give its original outputs from the inputs that it gets in the quantized
        model, with the memory of training one block. "model": all weights learn at once to give the original
        logits, which is better and needs the memory of training without an optimizer's state.
    steps: of descent, for each block or for the model; each looks at one batch of the data.
    reach: how far a weight can move, in distances between neighbouring codes.
    norms: how far parameters with one axis that are not quantized (norms, biases) can move, as a share of their
        root mean square; 0 leaves them alone.
    scales: how the scales of weights are chosen that no earlier step of the recipe has fixed.
    direction: "signed": every weight takes steps of one size, as published; "scaled": a weight whose gradient is
        small takes smaller ones, so that noise moves it less.
    seed: of the order of the batches.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scope: Literal["blocks", "model"] = "blocks"
    steps: int = Field(200, ge=1)
    reach: float = Field(0.5, gt=0)
    norms: float = Field(0.0, ge=0)
    scales: Literal["max", "mse"] = "mse"
    direction: Literal["scaled", "signed"] = "scaled"
    seed: int = 0


def needs_data(plan: Plan) -> bool:
    """Always: the outputs decide how weights are rounded."""
    return True


def run_autoround(run: CalibrationRun, options: AutoRoundOptions) -> None:
    """Learn how weights of linear layers and stacked experts are rounded, while inputs are rounded as they will be.

    Scales that an earlier step has fixed stay; where there was none every amax is set as `max` does first. Weights
    that an earlier step has rounded start from what they were before. What is aimed at are the outputs before any
    step of the recipe.

    Raises:
        CalibrationError: no data, data that is not finite, or blocks that form no chain.
    """
    if run.blocks is not None and options.scope == "model":
        raise CalibrationError(
            "autoround: scope model learns all blocks at once; block by block, choose scope blocks"
        )
    if run.forward_loop is None and run.blocks is None:
        raise CalibrationError("autoround needs calibration data: give a forward_loop, or --calib")
    quantizers = dict(planned_quantizers(run))
    refuse_transformed(quantizers, "autoround")
    layers = list(matrix_layers(run.model, quantizers))
    sharded = [key for key in layers if is_sharded(weight_place(run.model, key)[0])]
    if sharded:
        raise CalibrationError(
            f"autoround moves whole weights, and {weight_name(sharded[0])} ({len(sharded)} in all) is spread over "
            "processes: give every process the whole model"
        )
    if run.first:
        run_max(run, MaxOptions())
    for key in layers:
        fix_amax(run.model, quantizers, key, options.scales)
    if options.scope == "model":
        _learn_model(run, quantizers, layers, options)
    else:
        _learn_blocks(run, quantizers, layers, options)
    with torch.no_grad():
        for key in layers:
            parameter, part = weight_place(run.model, key)
            run.edits.set_rounded(parameter, quantizers[key](weight_tensor(run.model, key)), part)


def _learn_blocks(
    run: CalibrationRun, quantizers: Quantizers, layers: Sequence[WeightKey], options: AutoRoundOptions
) -> None:
    with calibration_mode(run.model):
        if run.blocks is not None:
            for inputs in run.blocks:
                _learn_block(run, quantizers, layers, inputs, options)
            return
        assert run.forward_loop is not None, "learning needs data"
        with disabled(quantizers.values()):
            names = find_blocks(run.model, list(dict.fromkeys(name for name, _ in layers)))
            recording = record_blocks(run.model, names, run.forward_loop)
        if recording.names == (WHOLE_MODEL,):  # no list of blocks: the model is one
            _learn_model(run, quantizers, layers, options)
            return
        original, changed = list(recording.hidden), list(recording.hidden)
        advance = run.progress(len(recording.names) * options.steps, "steps")
        for name, calls in zip(recording.names, recording.calls, strict=True):
            inputs = BlockInputs(name, calls, original, changed)
            original = _learn_block(run, quantizers, layers, inputs, options, advance)
            changed = _outputs(run.model.get_submodule(name), calls, changed)


def _learn_block(
    run: CalibrationRun,
    quantizers: Quantizers,
    layers: Sequence[WeightKey],
    inputs: BlockInputs,
    options: AutoRoundOptions,
    advance: Callable[[int], object] = lambda done: None,
) -> list[Tensor]:
    """Learn what lies in one block; its original outputs are returned."""
    block = run.model.get_submodule(inputs.name)
    own = [quantizer for (module, _), quantizer in quantizers.items() if inside(module, inputs.name)]
    with run.edits.whole.originals_back(), disabled(own):
        targets = _outputs(block, inputs.calls, inputs.original)

    def loss(index: int) -> Tensor:
        return relative_loss(targets[index], inputs.calls[index].run(block, inputs.changed[index]))

    moving = _moving(run, quantizers, [key for key in layers if inside(key[0], inputs.name)], block, options)
    if moving:
        _descend(run, moving, loss, len(inputs.calls), inputs.name, options, advance)
    else:
        advance(options.steps)
    return targets


def _learn_model(
    run: CalibrationRun, quantizers: Quantizers, layers: Sequence[WeightKey], options: AutoRoundOptions
) -> None:
    assert run.forward_loop is not None, "learning needs data"
    with disabled(quantizers.values()):
        (calls,) = record_blocks(run.model, (WHOLE_MODEL,), run.forward_loop).calls

    def output(index: int) -> Any:
        args, kwargs = calls[index].arguments(torch.empty(0))
        return run.model(*args, **kwargs)

    def loss(index: int) -> Tensor:
        with torch.no_grad(), run.edits.whole.originals_back(), disabled(quantizers.values()):
            target = output(index)
        logits = getattr(target, "logits", None)
        if logits is None:
            return relative_loss(first_tensor(target), first_tensor(output(index)))
        return distribution_loss(logits, output(index).logits)

    with calibration_mode(run.model):
        moving = _moving(run, quantizers, layers, run.model, options)
        _descend(run, moving, loss, len(calls), "the model", options, run.progress(options.steps, "steps"))


def _outputs(block: nn.Module, calls: Sequence[BlockCall], hidden: Sequence[Tensor]) -> list[Tensor]:
    return [call.run(block, state) for call, state in zip(calls, hidden, strict=True)]


@dataclass(frozen=True)
class _Moving:
    """A parameter, and how far each of its values can move: `reach` times a unit.

    `units`: in the shape of the parameter, under None; or of its matrices, by their numbers, where it is a stack.
    Each takes steps of its own, as a list of layers would.
    """

    parameter: nn.Parameter
    reach: float
    units: dict[int | None, Tensor]

    def step(
        self, take_step: Callable[[Tensor, Tensor, Tensor, float], None], gradient: Tensor, rate: float
    ) -> None:
        """Move the values in place."""
        for part, unit in self.units.items():
            values = self.parameter.data if part is None else self.parameter.data[part]
            take_step(values, gradient if part is None else gradient[part], unit, self.reach * rate)


def _moving(
    run: CalibrationRun,
    quantizers: Quantizers,
    layers: Sequence[WeightKey],
    block: nn.Module,
    options: AutoRoundOptions,
) -> list[_Moving]:
    """What learns in a block: the weights of its layers, and its norms and biases where these may."""
    found: dict[int, _Moving] = {}
    for key in layers:
        (parameter, part), quantizer = weight_place(run.model, key), quantizers[key]
        before = run.edits.before_rounding(parameter).detach()
        weight = before if part is None else before[part]
        matrix = quantizer.matrix(weight)
        distances = code_distances(matrix, quantizer.qparams(weight, matrix=matrix))
        moving = found.setdefault(id(parameter), _Moving(parameter, options.reach, {}))
        moving.units[part] = quantizer.view.from_matrix(distances, weight)
    for parameter in block.parameters() if options.norms and layers else ():
        if parameter.dim() == 1 and id(parameter) not in found:
            size = parameter.detach().float().square().mean().sqrt()
            found[id(parameter)] = _Moving(parameter, options.norms, {None: size.expand_as(parameter)})
    return list(found.values())


def _descend(
    run: CalibrationRun,
    moving: Sequence[_Moving],
    loss: Callable[[int], Tensor],
    calls: int,
    name: str,
    options: AutoRoundOptions,
    advance: Callable[[int], object],
) -> None:
    """Take the steps; `loss` is that of one call of the data, and has gradients. Ranks add theirs up."""
    parameters = [one.parameter for one in moving]
    for parameter in parameters:
        # A copy, which the steps change in place. Values that an earlier step has rounded teach nothing: all of
        # one gradient would reach the middle between two codes together, with the last step.
        run.edits.set(parameter, run.edits.before_rounding(parameter), rounding=True)
    take_step = signed_step if options.direction == "signed" else scaled_step
    ranks = current_ranks()
    losses = []
    with _learning(run.model, parameters):
        for index, rate in zip(_order(calls, options), falling_rates(1.0, options.steps), strict=True):
            with torch.enable_grad():
                value = loss(index)
                gradients = torch.autograd.grad(value, parameters, allow_unused=True)
            for one, gradient in zip(moving, gradients, strict=True):
                if ranks is not None:
                    gradient = ranks.total(torch.zeros_like(one.parameter) if gradient is None else gradient)
                if gradient is not None:
                    one.step(take_step, gradient, rate)
            advance(1)
            losses.append(value.detach() if ranks is None else ranks.total(value.detach()))
    curve = torch.stack(losses).tolist()  # the one wait for the device
    if not all(map(math.isfinite, curve)):
        raise CalibrationError(
            f"{name}: its outputs on the calibration data hold NaN or infinite values: check the data and the "
            "model's dtype"
        )
    first, last = curve[:calls], curve[-calls:]
    LOG.info("autoround: %s: loss %.4g, at first %.4g", name, sum(last) / len(last), sum(first) / len(first))


def _order(calls: int, options: AutoRoundOptions) -> list[int]:
    """Which call each step looks at: all of them in a drawn order, then again in another."""
    generator = torch.Generator().manual_seed(options.seed)
    rounds = -(-options.steps // calls)
    drawn = torch.cat([torch.randperm(calls, generator=generator) for _ in range(rounds)])
    return [int(index) for index in drawn[: options.steps]]


@contextmanager
def _learning(model: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Only these parameters get gradients meanwhile; put back in any case."""
    states = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in states:
            parameter.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter, state in states:
            parameter.requires_grad_(state)


AUTOROUND = AlgorithmSpec(
    "autoround",
    "learn the rounding of weights by descent, by block or from the logits",
    AutoRoundOptions,
    needs_data,
    run_autoround,
    sequential=True,
    cost="training: steps forwards and backwards of every block (or of the model) and its memory; the slowest",
    linear_only=True,
    experts=True,
)

"""Sequential: walk a model block by block, so that each layer is rounded on the inputs that it really gets."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from mtcore.calibration.blocks import BlockInputs, find_blocks, inside, record_blocks
from mtcore.calibration.loop import calibration_mode
from mtcore.calibration.products import (
    AllSeen,
    InputProducts,
    products_across,
    seen_inputs,
    shared_inputs,
)
from mtcore.calibration.quantizers import (
    Quantizers,
    WeightKey,
    disabled,
    matrix_layers,
    stack_of,
    weight_name,
    weight_tensor,
)
from mtcore.calibration.ranks import current_ranks
from mtcore.calibration.spec import CalibrationRun
from mtcore.errors import CalibrationError
from mtcore.nn import QuantModule, TensorQuantizer

LOG = logging.getLogger(__name__)

Steps = Literal["blocks", "layers"]
"""Whether a layer sees the errors of earlier blocks, or also those of earlier layers of its own block."""

RoundGroup = Callable[[tuple[WeightKey, ...], InputProducts], None]
"""Rounds weights which are multiplied with one input, given its products."""

MOST_BYTES = 4 * 2**30
"""Of products of a stack's experts at a time; more experts take one more run of their block each."""


def walk_blocks(
    run: CalibrationRun, quantizers: Quantizers, round_group: RoundGroup, *, steps: Steps, drift: bool
) -> None:
    """Round the weights of all linear layers and stacked experts inside the model's blocks, in the order in which
    they run.

    The data runs once through the whole model, and then block by block: through the original block and through the
    quantized one. What is kept is one hidden state a batch for each of the two, and the products of one block; with
    steps "layers" those of one input, or of as many experts of one stack as `MOST_BYTES` hold.
    Layers outside the blocks are left to the caller. A model without a list of blocks is one block. Where
    the run names its blocks, only these are walked, on the inputs that come with them.

    Args:
        run: a converted model whose quantizers are calibrated.
        quantizers: the plan's.
        round_group: called once for every group of layers that read one input, and for every expert; writes
            through `run.edits`.
        steps: see `Steps`.
        drift: whether `products.drift` is wanted, which costs one more forward of the original block a step.

    Raises:
        CalibrationError: the blocks form no chain; a layer was never reached; an input is not
            finite.
    """
    layers = matrix_layers(run.model, quantizers)

    def walk(inputs: BlockInputs) -> _Block:
        own = [quantizer for (module, _), quantizer in quantizers.items() if inside(module, inputs.name)]
        block = _Block(run, run.model.get_submodule(inputs.name), inputs, own)
        within = {key: module for key, module in layers.items() if inside(key[0], inputs.name)}
        _round_block(block, within, quantizers, round_group, steps, drift)
        return block

    with calibration_mode(run.model), torch.no_grad():
        if run.blocks is not None:
            for inputs in run.blocks:
                walk(inputs)
            return
        assert run.forward_loop is not None, "walking blocks needs data"
        with disabled(quantizers.values()):
            names = find_blocks(run.model, list(dict.fromkeys(name for name, _ in layers)))
            recording = record_blocks(run.model, names, run.forward_loop)
        original, changed = list(recording.hidden), list(recording.hidden)
        advance = run.progress(len(recording.names), "blocks")
        for name, calls in zip(recording.names, recording.calls, strict=True):
            block = walk(BlockInputs(name, calls, original, changed))
            for index in range(len(calls)) if name != recording.names[-1] else ():
                original[index], changed[index] = block.run_original(index), block.run_changed(index)
            advance(1)


@dataclass(frozen=True)
class _Block:
    """One block with its inputs.

    Attributes:
        settled: quantizers of weights that hold their rounded values: to round them again changes no bit (but with
            formats of two stages, which are none of these).
    """

    run: CalibrationRun
    module: nn.Module
    inputs: BlockInputs
    quantizers: Sequence[TensorQuantizer]
    settled: list[TensorQuantizer] = field(default_factory=list)

    def run_original(self, index: int) -> Tensor:
        """With the original weights and nothing rounded."""
        with self.run.edits.originals_back(), disabled(self.quantizers):
            return self.inputs.calls[index].run(self.module, self.inputs.original[index])

    def run_changed(self, index: int) -> Tensor:
        """As it stands."""
        with disabled(self.settled):
            return self.inputs.calls[index].run(self.module, self.inputs.changed[index])


def _round_block(
    block: _Block,
    layers: Mapping[WeightKey, QuantModule],
    quantizers: Quantizers,
    round_group: RoundGroup,
    steps: Steps,
    drift: bool,
) -> None:
    if not layers:
        return
    times: Counter[WeightKey] = Counter()
    groups = _readers_of_one_value(block, layers, times)
    ranks = current_ranks()
    if ranks is not None and any(others != groups for others in ranks.every(groups)):
        raise CalibrationError(
            f"{block.inputs.name}: its layers read other inputs in one process than in another, so that they "
            "cannot be rounded together; calibrate in one process"
        )
    pending = dict.fromkeys(key for group in groups for key in group)
    _leave_unreached(block.run, sorted(set(layers) - set(pending)), layers)
    unreached: list[WeightKey] = []
    for together in _one_by_one(block, groups, quantizers) if steps == "layers" else [groups]:
        waiting = [quantizers[key] for key in pending]
        leaders = {group[0]: layers[group[0]] for group in together}
        once = all(times[leader] == 1 for leader in leaders)
        products = _products(block, leaders, waiting, drift, once)
        for group in together:
            found = products.pop(group[0], None)
            if found is None:  # reached in the original model alone, or an expert that no token was sent to
                unreached.append(group[0])
            else:
                found.check(weight_name(group[0]))
                round_group(group, found)
                own = [quantizers[key] for key in group]
                block.settled.extend(quantizer for quantizer in own if quantizer.format.via is None)
            for key in group:
                del pending[key]
    _leave_unreached(block.run, unreached, layers)


def _one_by_one(
    block: _Block, groups: Sequence[tuple[WeightKey, ...]], quantizers: Quantizers
) -> list[list[tuple[WeightKey, ...]]]:
    """Every group apart, but for the experts of one stack: these do not see each other's errors."""
    found: list[list[tuple[WeightKey, ...]]] = []
    room: dict[tuple[str, str], int] = {}
    for group in groups:
        place, key = stack_of(group[0]), group[0]
        if place == key:
            found.append([group])
            continue
        if place not in room:
            weight = weight_tensor(block.run.model, key)
            cols = weight.numel() // weight.shape[quantizers[key].view.row_axis or 0]
            room[place] = max(1, MOST_BYTES // (2 * cols * cols * torch.float32.itemsize))
        last = found[-1] if found else []
        if last and stack_of(last[0][0]) == place and len(last) < room[place]:
            last.append(group)
        else:
            found.append([group])
    return found


def _leave_unreached(
    run: CalibrationRun, unreached: Sequence[WeightKey], layers: Mapping[WeightKey, QuantModule]
) -> None:
    """Leave weights without data to their quantizers, layers where the recipe says so; tell of stacks together.

    Raises:
        CalibrationError: it does not.
    """
    stacks = Counter(stack_of(key) for key in layers)
    left = Counter(stack_of(key) for key in unreached)
    for place, count in left.items():
        if place not in layers:
            run.note(
                f"{'.'.join(place)}: {count} of {stacks[place]} experts got no token, or their tokens could not be "
                "told apart; their weights are rounded to nearest"
            )
        elif run.plan.experts.unseen == "error":
            raise CalibrationError(
                f"{place[0]}: the calibration data never reached it (of experts, see `experts.unseen`)"
            )
        else:
            LOG.warning("%s: no data reached it; its weight is rounded to nearest", place[0])


def _readers_of_one_value(
    block: _Block, layers: Mapping[WeightKey, QuantModule], times: Counter[WeightKey]
) -> list[tuple[WeightKey, ...]]:
    """Layers that read one tensor, those that the first batch does not reach by the first one that does.

    `times` is told how often each of them was called for that batch.
    """
    groups: list[tuple[WeightKey, ...]] = []
    left = dict(layers)
    for index in range(len(block.inputs.calls)):
        groups += shared_inputs(left, partial(block.run_original, index), times)
        grouped = {key for group in groups for key in group}
        left = {key: layer for key, layer in left.items() if key not in grouped}
        if not left:
            break
    return groups


def _products(
    block: _Block,
    leaders: Mapping[WeightKey, QuantModule],
    waiting: Sequence[TensorQuantizer],
    drift: bool,
    once: bool,
) -> dict[WeightKey, InputProducts]:
    """Products of the leaders' inputs over all calls, while the `waiting` weights are not rounded yet.

    Where leaders are called `once` a forward, what comes after the last of them is not computed.
    """
    products: dict[WeightKey, InputProducts] = {}
    for index in range(len(block.inputs.calls)):
        with seen_inputs(leaders, stop=once) as seen:
            with suppress(AllSeen):
                if drift:
                    block.run_original(index)
            exact = dict(seen)
            seen.clear()
            with suppress(AllSeen), disabled(waiting):
                block.run_changed(index)
        for key, x in seen.items():
            if key not in products:
                products[key] = InputProducts.empty(x.shape[1], x.device)
            products[key].add(x, exact.get(key))
    ranks = current_ranks()
    if ranks is None:
        return products
    device = next(block.module.parameters()).device
    return products_across(products, leaders, device, ranks)

"""Folding: channel scales that move between the parameters which produce a value and those which consume it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mtcore.calibration.edits import ParameterEdits
from mtcore.calibration.spec import CalibrationRun
from mtcore.trace import FoldGroup, Slices
from mtcore.trace.slices import whole_range

_AT_ONCE = 2**24
"""Elements of a parameter that are scaled together: 64 MiB of fp32."""


@dataclass(frozen=True)
class ScaledInput:
    """Quantized linear layers whose input columns are the channels of a fold group.

    Attributes:
        group: the fold; its scale s goes to the producers as s and to these columns as 1 / s, or the other way.
        consumers: layer name → for every column, the number of its channel, int64 [cols].
        columns_divided: whether the consumers' columns are on the group's `down` side.
        carried: whether the other side of the fold is a `pre_quant_scale` on the consumers themselves.
    """

    group: FoldGroup
    consumers: Mapping[str, Tensor]
    columns_divided: bool
    carried: bool = False

    def channels_of(self, sizes: Mapping[str, Tensor]) -> Tensor:
        """The largest of the columns' sizes for every channel, fp32 [channels]; sizes are by consumer, [cols]."""
        first = next(iter(sizes.values()))
        found = torch.zeros(self.group.size, device=first.device)
        for name, size in sizes.items():
            channels = self.consumers[name]
            if is_range(channels, len(found)):
                found = torch.maximum(found, size.float())
            else:
                found.scatter_reduce_(0, channels.to(size.device), size.float(), "amax")
        return found

    def root_sums(self, squares: Mapping[str, Tensor]) -> Tensor:
        """The root of the sum of the columns' squares for every channel, fp32 [channels], as in `channels_of`."""
        first = next(iter(squares.values()))
        found = torch.zeros(self.group.size, device=first.device)
        for name, square in squares.items():
            found.index_add_(0, self.consumers[name].to(square.device), square.float())
        return found.sqrt()

    def by_consumer(self, scales: Tensor) -> dict[str, Tensor]:
        """The scales of every consumer's columns, [cols], from those of the channels; alike ones are one tensor."""
        known: list[tuple[Tensor, Tensor]] = []
        found: dict[str, Tensor] = {}
        for name, channels in self.consumers.items():
            same = next(
                (columns for other, columns in known if channels is other or torch.equal(channels, other)), None
            )
            if same is None:
                same = scales if is_range(channels, len(scales)) else scales[channels.to(scales.device)]
                known.append((channels, same))
            found[name] = same
        return found


def scaled_inputs(folds: Sequence[FoldGroup], columns: Mapping[str, int]) -> Iterator[ScaledInput]:
    """The folds that reach all columns of at least one of some linear layers, in the order of `folds`.

    A layer that is reached by several is taken by the first.

    Args:
        columns: of the layers' weights, by the layer's name.
    """
    taken: set[str] = set()
    for group in folds:
        for divided, sides in ((True, group.down), (False, group.up)):
            consumers = {}
            for side in sides:
                layer, _, parameter = side.parameter.rpartition(".")
                if layer not in columns or parameter != "weight" or side.axes != (1,) or layer in taken:
                    continue
                channels = _by_column(side, columns[layer])
                if channels is not None:
                    consumers[layer] = channels
            if consumers:
                taken.update(consumers)
                yield ScaledInput(group, consumers, divided)
                break


def fold(modules: Mapping[str, nn.Module], edits: ParameterEdits, where: ScaledInput, scales: Tensor) -> None:
    """Divide the consumers' inputs by `scales` and multiply their columns, without changing the model's outputs.

    Args:
        modules: of the model, by name.
        scales: positive, fp32 [channels].
    """
    factor = scales if where.columns_divided else 1.0 / scales
    for sides, by in ((where.group.up, 1.0 / factor), (where.group.down, factor)):
        for side in sides:
            scale_slices(_parameter(modules, side), edits, side, by)


def fold_inputs(run: CalibrationRun, where: ScaledInput, scales: Tensor) -> None:
    """`fold`, and tell the run's statistics, so that no data need run for what can be worked out.

    The inputs of the consumers are divided by the scales. Of the other values that a fold changes (what lies
    between the producers and the consumers, and inputs of layers that are scaled in part) the statistics are
    forgotten.
    """
    fold(run.modules, run.edits, where, scales)
    statistics = run.statistics
    statistics.divide({(name, "input"): by for name, by in where.by_consumer(scales).items()})
    producers, readers = where.group.up, where.group.down
    if not where.columns_divided:
        producers, readers = readers, producers
    other = {
        side.parameter.rpartition(".")[0]
        for side in readers
        if (dims := _parameter(run.modules, side).dim()) > 2 or (dims == 2 and 1 in side.axes)
    } - set(where.consumers)
    # Behind a norm lie only its readers. Behind a matrix may lie anything: attention, activation functions.
    between = any(_parameter(run.modules, side).dim() > 1 for side in producers)
    statistics.forget(
        [
            (module, slot)
            for module, slot in statistics
            if module in other or (between and not (slot == "input" and isinstance(run.modules[module], nn.Linear)))
        ]
    )


def scale_slices(parameter: nn.Parameter, edits: ParameterEdits, side: Slices, by: Tensor) -> None:
    """(w + offset) · by - offset for the slices `side` of a parameter; `by` is fp32 [channels]."""
    sizes = [parameter.shape[axis] for axis in side.axes]
    indices = side.places
    if is_range(indices, math.prod(sizes)) and is_range(side.channel_numbers, len(by)):
        factors = by
    else:
        factors = torch.ones(math.prod(sizes), device=by.device)
        factors[indices.to(by.device)] = by[side.channel_numbers.to(by.device)]
    factors = _along(factors, side.axes, sizes, parameter.dim()).to(parameter.device)
    touched = None
    if side.offset and len(indices) < len(factors.flatten()):
        inside = torch.zeros(factors.numel(), dtype=torch.bool)
        inside[indices] = True
        touched = _along(inside, side.axes, sizes, parameter.dim()).to(parameter.device)
    target = edits.writable(parameter)
    step = max(1, _AT_ONCE // max(1, target[:1].numel())) if target.dim() else 1
    for start in range(0, len(target), step):
        part = target[start : start + step]
        by_part = factors if len(factors) == 1 else factors[start : start + step]
        if not side.offset:
            part.mul_(by_part)  # in fp32, rounded once; no second copy where the device can do without
            continue
        scaled = (part.float() + side.offset) * by_part - side.offset
        if touched is not None:
            scaled = torch.where(touched if len(touched) == 1 else touched[start : start + step], scaled, part)
        part.copy_(scaled)


def is_range(numbers: Tensor, size: int) -> bool:
    """Whether they are 0 … size - 1 in order: then nothing need be picked, nor brought to the device.

    Example:
        >>> is_range(torch.tensor([0, 1, 2]), 3), is_range(torch.tensor([0, 2, 1]), 3)
        (True, False)
    """
    every = whole_range(size)
    return numbers is every or (len(numbers) == size and np.array_equal(numbers.numpy(), every.numpy()))


def _parameter(modules: Mapping[str, nn.Module], side: Slices) -> nn.Parameter:
    module, _, own = side.parameter.rpartition(".")
    return modules[module].get_parameter(own)  # from the root it would walk down name by name


def _along(flat: Tensor, axes: tuple[int, ...], sizes: list[int], dims: int) -> Tensor:
    """Values that are flat over some axes of a parameter, in a shape that meets it."""
    order = sorted(range(len(axes)), key=axes.__getitem__)
    shaped = flat.view(sizes).permute(order)
    return shaped.reshape([sizes[axes.index(axis)] if axis in axes else 1 for axis in range(dims)])


def _by_column(side: Slices, cols: int) -> Tensor | None:
    """The channel of every column, or None where some column has none."""
    if is_range(side.places, cols):
        return side.channel_numbers
    channels = np.full(cols, -1)  # torch would wake all its threads for this
    channels[side.places.numpy()] = side.channel_numbers.numpy()
    return None if (channels < 0).any() else torch.from_numpy(channels)

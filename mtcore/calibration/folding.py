"""Folding: channel scales that move between the parameters which produce a value and those which consume it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mtcore.calibration.edits import ParameterEdits
from mtcore.calibration.matrices import Columns, apart, channels_by_matrix
from mtcore.calibration.quantizers import WeightKey, factor_site
from mtcore.calibration.spec import CalibrationRun
from mtcore.calibration.statistics import Site
from mtcore.nn import ExpertsQuantModule
from mtcore.nn.spec import input_slot
from mtcore.trace import FoldGroup, Slices
from mtcore.trace.slices import whole_range

_AT_ONCE = 2**24
"""Elements of a parameter that are scaled together: 64 MiB of fp32."""


@dataclass(frozen=True)
class ScaledInput:
    """Quantized matrices, of linear layers and of stacked experts, whose columns are the channels of a fold group.

    Attributes:
        group: the fold; its scale s goes to the producers as s and to these columns as 1 / s, or the other way.
        consumers: by weight quantizer, for every column of the matrix the number of its channel, int64 [cols].
        columns_divided: whether the consumers' columns are on the group's `down` side.
        carried: whether the other side of the fold is a `pre_quant_scale` on the consumers themselves.
    """

    group: FoldGroup
    consumers: Mapping[WeightKey, Tensor]
    columns_divided: bool
    carried: bool = False

    def channels_of(self, sizes: Mapping[WeightKey, Tensor]) -> Tensor:
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

    def root_sums(self, squares: Mapping[WeightKey, Tensor]) -> Tensor:
        """The root of the sum of the columns' squares for every channel, fp32 [channels], as in `channels_of`."""
        first = next(iter(squares.values()))
        found = torch.zeros(self.group.size, device=first.device)
        for name, square in squares.items():
            found.index_add_(0, self.consumers[name].to(square.device), square.float())
        return found.sqrt()

    def by_consumer(self, scales: Tensor) -> dict[WeightKey, Tensor]:
        """The scales of every consumer's columns, [cols], from those of the channels; alike ones are one tensor."""
        known: list[tuple[Tensor, Tensor]] = []
        found: dict[WeightKey, Tensor] = {}
        for name, channels in self.consumers.items():
            same = next(
                (columns for other, columns in known if channels is other or torch.equal(channels, other)), None
            )
            if same is None:
                same = scales if is_range(channels, len(scales)) else scales[channels.to(scales.device)]
                known.append((channels, same))
            found[name] = same
        return found


def scaled_inputs(folds: Sequence[FoldGroup], columns: Mapping[WeightKey, Columns]) -> Iterator[ScaledInput]:
    """The folds that reach all columns of at least one of some matrices, in the order of `folds`.

    A matrix that is reached by several is taken by the first. A fold of a stack whose experts have channels of
    their own is one for each of them, as it would be for a list of layers.

    Args:
        columns: of linear layers and stacked experts, see `planned_columns`.
    """
    taken: set[WeightKey] = set()
    for group in folds:
        for divided, sides in ((True, group.down), (False, group.up)):
            consumers = {
                key: channels
                for side in sides
                for key, channels in channels_by_matrix(side, columns)
                if key not in taken
            }
            if consumers:
                taken.update(consumers)
                yield from (ScaledInput(part, own, divided) for part, own in apart(group, consumers))
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
    divided = {factor_site(key): by for key, by in where.by_consumer(scales).items()}
    statistics.divide(divided)
    producers, readers = where.group.up, where.group.down
    if not where.columns_divided:
        producers, readers = readers, producers
    modules: set[str] = set()
    sites: set[Site] = set()
    for side in readers:
        name, _, parameter = side.parameter.rpartition(".")
        shape = _parameter(run.modules, side).shape
        if (name, parameter) in where.consumers or len(shape) < 2 or (len(shape) == 2 and 1 not in side.axes):
            continue
        module = run.modules[name]
        if isinstance(module, ExpertsQuantModule) and parameter in module.slots:
            sites |= {(name, input_slot(parameter)), *((name, f"{parameter}.{e}") for e in rows_of(side, shape))}
        else:
            modules.add(name)
    # Behind a norm lie only its readers. Behind a matrix may lie anything: attention, activation functions.
    between = any(_parameter(run.modules, side).dim() > 1 for side in producers)
    statistics.forget(
        [
            site
            for site in statistics
            if site not in divided
            and (site[0] in modules or site in sites or (between and not _is_factor(run.modules[site[0]], site[1])))
        ]
    )


def _is_factor(module: nn.Module, slot: str) -> bool:
    """Whether a value is what matrices are multiplied with, so that a fold which changes it reads it."""
    return isinstance(module, ExpertsQuantModule) or (slot == "input" and isinstance(module, nn.Linear))


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
    rows = rows_of(side, parameter.shape) if len(factors) > 1 else range(len(target))
    last = rows[-1] + 1 if rows else 0
    for start in range(rows[0] if rows else 0, last, step):
        end = min(start + step, last)
        part = target[start:end]
        by_part = factors if len(factors) == 1 else factors[start:end]
        if not side.offset:
            part.mul_(by_part)  # in fp32, rounded once; no second copy where the device can do without
            continue
        scaled = (part.float() + side.offset) * by_part - side.offset
        if touched is not None:
            scaled = torch.where(touched if len(touched) == 1 else touched[start:end], scaled, part)
        part.copy_(scaled)


def is_range(numbers: Tensor, size: int) -> bool:
    """Whether they are 0 … size - 1 in order: then nothing need be picked, nor brought to the device.

    Example:
        >>> is_range(torch.tensor([0, 1, 2]), 3), is_range(torch.tensor([0, 2, 1]), 3)
        (True, False)
    """
    every = whole_range(size)
    return numbers is every or (len(numbers) == size and np.array_equal(numbers.numpy(), every.numpy()))


def rows_of(side: Slices, shape: Sequence[int]) -> Sequence[int]:
    """The rows of a parameter of this shape (the experts of a stack) that have slices, in order."""
    if side.axes[0] != 0 or not len(side.places):
        return range(shape[0])
    found: list[int] = np.unique(side.places.numpy() // math.prod(shape[axis] for axis in side.axes[1:])).tolist()
    return found


def _parameter(modules: Mapping[str, nn.Module], side: Slices) -> nn.Parameter:
    module, _, own = side.parameter.rpartition(".")
    return modules[module].get_parameter(own)  # from the root it would walk down name by name


def _along(flat: Tensor, axes: tuple[int, ...], sizes: list[int], dims: int) -> Tensor:
    """Values that are flat over some axes of a parameter, in a shape that meets it."""
    order = sorted(range(len(axes)), key=axes.__getitem__)
    shaped = flat.view(sizes).permute(order)
    return shaped.reshape([sizes[axes.index(axis)] if axis in axes else 1 for axis in range(dims)])

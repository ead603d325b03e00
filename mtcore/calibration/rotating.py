"""Rotating: channels between two linear maps, turned by a matrix that the second map undoes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtcore.backends import HADAMARD, kernel_for
from mtcore.calibration.edits import ParameterEdits
from mtcore.calibration.folding import scale_slices
from mtcore.trace import FoldGroup, Slices, SymGroup


def can_rotate(model: nn.Module, group: FoldGroup) -> bool:
    """Whether the parameters of a fold have the form that a rotation needs; whether it is exact, only numbers say.

    Its producers are rows of matrices and their biases; its consumers are columns; every channel has as many of
    each, and no number is added to a parameter before its use.
    """
    sides = (*group.up, *group.down)
    if not group.up or not group.down or any(side.offset or len(side.axes) != 1 for side in sides):
        return False
    dims = {side.parameter: model.get_parameter(side.parameter).dim() for side in sides}
    return (
        all(side.axes == (0,) for side in group.up)
        and all(side.axes == (1,) and dims[side.parameter] == 2 for side in group.down)
        and any(dims[side.parameter] == 2 for side in group.up)
        and all(len(side.channels) % group.size == 0 for side in sides)
        and all(bool((_counts(side, group.size) == len(side.channels) // group.size).all()) for side in sides)
    )


def rotate(model: nn.Module, edits: ParameterEdits, group: FoldGroup, size: int) -> None:
    """Turn every run of `size` channels of a group by the orthonormal Hadamard matrix of that size.

    With v' = v H the consumers get W' = W H, so that W' v'ᵀ = W H Hᵀ vᵀ: nothing changes, if what lies between is
    linear and treats the channels of a run alike.
    """
    for side in (*group.up, *group.down):
        _turn(model, edits, side, group.size, size)


def can_turn(model: nn.Module, stream: SymGroup) -> bool:
    """Whether every channel of a residual stream has as many slices in each parameter, and none has an offset but
    vectors; whether turning it is exact, only numbers say."""
    return all(
        len(side.channels) % stream.size == 0
        and bool((_counts(side, stream.size) == len(side.channels) // stream.size).all())
        and not (side.offset and model.get_parameter(side.parameter).dim() > 1)
        for side in stream.members
    )


def absorb_norms(model: nn.Module, edits: ParameterEdits, stream: SymGroup, folds: Sequence[FoldGroup]) -> set[str]:
    """Make the weights of norms in a stream 1, and scale the columns behind them by what they were.

    A norm's weight is what alone stands on one side of a fold whose other side are columns.

    Returns:
        The names of the weights that are 1 now.
    """
    members, absorbed = set(stream.parameters), set()
    for group in folds:
        if len(group.up) != 1 or group.up[0].parameter not in members:
            continue
        side, weight = group.up[0], model.get_parameter(group.up[0].parameter)
        columns = [model.get_parameter(s.parameter).dim() - 1 in s.axes for s in group.down]
        if weight.dim() != 1 or not all(columns) or len(side.channels) != group.size:
            continue
        used = (weight.detach().float() + side.offset)[side.places.to(weight.device)]
        by_channel = torch.ones_like(used)
        by_channel[side.channel_numbers.to(used.device)] = used
        if bool((by_channel == 0).any()):
            continue
        scale_slices(weight, edits, side, 1.0 / by_channel)
        for part in group.down:
            scale_slices(model.get_parameter(part.parameter), edits, part, by_channel)
        absorbed.add(side.parameter)
    return absorbed


def turn_stream(model: nn.Module, edits: ParameterEdits, stream: SymGroup, folds: Sequence[FoldGroup]) -> None:
    """Turn the channels of a residual stream by an orthonormal Hadamard matrix, the norms' weights absorbed first.

    What writes v writes v H; what reads it as v Wᵀ has W H, so that v H (W H)ᵀ = v Wᵀ. A norm without a weight that
    divides by the root mean square alone gives the same for v H as for v, turned. The matrix has the largest power
    of two that divides the channels.
    """
    absorbed = absorb_norms(model, edits, stream, folds)
    done: set[int] = set()
    for side in stream.members:
        parameter = model.get_parameter(side.parameter)
        if side.parameter not in absorbed and id(parameter) not in done:
            done.add(id(parameter))
            _turn(model, edits, side, stream.size, stream.size & -stream.size)


def _turn(model: nn.Module, edits: ParameterEdits, side: Slices, channels: int, size: int) -> None:
    parameter = model.get_parameter(side.parameter)
    # Sorted by channel, and by place within one: the k-th slices of all channels belong together.
    order = sorted(range(len(side.indices)), key=lambda i: (side.channels[i], side.indices[i]))
    places = torch.tensor([side.indices[i] for i in order], device=parameter.device)
    ends = tuple(range(-len(side.axes), 0))
    moved = parameter.detach().float().movedim(side.axes, ends)
    value = moved.flatten(-len(side.axes)).clone()
    taken = value[..., places].view(*value.shape[:-1], channels, -1).transpose(-1, -2)  # [..., copies, channels]
    turned = kernel_for(HADAMARD.name, taken.device)(taken.reshape(-1, channels), size, False).view(taken.shape)
    value[..., places] = turned.transpose(-1, -2).flatten(-2)
    edits.set(parameter, value.view(moved.shape).movedim(ends, side.axes).contiguous())


def _counts(side: Slices, channels: int) -> Tensor:
    return torch.bincount(torch.tensor(side.channels), minlength=channels)

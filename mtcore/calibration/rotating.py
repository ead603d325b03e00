"""Rotating: channels between two linear maps, turned by a matrix that the second map undoes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtcore.calibration.edits import ParameterEdits
from mtcore.nn.hadamard import block_hadamard
from mtcore.trace import FoldGroup, Slices


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


def _turn(model: nn.Module, edits: ParameterEdits, side: Slices, channels: int, size: int) -> None:
    parameter = model.get_parameter(side.parameter)
    # Sorted by channel, and by place within one: the k-th slices of all channels belong together.
    order = sorted(range(len(side.indices)), key=lambda i: (side.channels[i], side.indices[i]))
    places = torch.tensor([side.indices[i] for i in order], device=parameter.device)
    value = parameter.detach().float().clone().movedim(side.axes[0], -1)
    taken = value[..., places].view(*value.shape[:-1], channels, -1).transpose(-1, -2)  # [..., copies, channels]
    value[..., places] = block_hadamard(taken, size).transpose(-1, -2).flatten(-2)
    edits.set(parameter, value.movedim(-1, side.axes[0]).contiguous())


def _counts(side: Slices, channels: int) -> Tensor:
    return torch.bincount(torch.tensor(side.channels), minlength=channels)

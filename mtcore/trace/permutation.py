"""Exchanging channels: in every parameter of a group in the same way, after which the outputs must be the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtcore.trace.channels import SymGroup
from mtcore.trace.slices import Slices


@dataclass(frozen=True)
class PermutationCheck:
    """Outcome for one group: 'ok', 'changed' (the outputs), or 'ragged': channels of unlike layout, not tried.

    `error` is the largest relative change of an output, by all groups that were permuted together.
    """

    group: str
    outcome: str
    error: float = 0.0


def permutable(group: SymGroup) -> bool:
    """Whether in each of its parameters every channel has as many indices as every other."""
    return all(_alike(part, group.size) for part in group.members)


def random_order(size: int, generator: torch.Generator) -> Tensor:
    """A permutation that moves every channel, int64 [size]: one random cycle."""
    cycle = torch.randperm(size, generator=generator)
    order = torch.empty_like(cycle)
    order[cycle] = cycle.roll(1)
    return order


def permute(model: nn.Module, parameters: Mapping[str, Tensor], group: SymGroup, order: Tensor) -> None:
    """Puts channel `order[c]` in the place of channel c, in place; also in buffers that lie beside whole axes.

    A channel's indices are flat over the axes of a member and go in their order: the n-th of one channel into the
    place of the n-th of another.

    Args:
        parameters: of `model`, by name.
        order: int64 [group.size], a permutation.
    """
    buffers: set[str] = set()
    with torch.no_grad():
        for part in group.members:
            parameter = parameters[part.parameter]
            target, source = _moves(part, group.size, order)
            _move(parameter, part.axes, target, source)
            if part.axes == (0,) and len(target) == parameter.shape[0]:
                owner = part.parameter.rpartition(".")[0]
                for name, buffer in model.get_submodule(owner).named_buffers(recurse=False):
                    full = f"{owner}.{name}" if owner else name
                    if buffer.dim() and buffer.shape[0] == parameter.shape[0] and full not in buffers:
                        buffers.add(full)
                        _move(buffer, (0,), target, source)


def _alike(part: Slices, size: int) -> bool:
    counts = torch.bincount(torch.tensor(part.channels, dtype=torch.long), minlength=size)
    return bool(part.axes) and bool((counts == counts[0]).all())


def _moves(part: Slices, size: int, order: Tensor) -> tuple[Tensor, Tensor]:
    """Flat indices: what stands at `source` goes to `target`."""
    indices, channels = torch.tensor(part.indices), torch.tensor(part.channels)
    by_index = torch.argsort(indices)
    by_channel = by_index[torch.argsort(channels[by_index], stable=True)]
    table = indices[by_channel].view(size, -1)
    return table.reshape(-1), table[order].reshape(-1)


def _move(tensor: Tensor, axes: tuple[int, ...], target: Tensor, source: Tensor) -> None:
    lead = tuple(range(len(axes)))
    value = tensor.detach().movedim(axes, lead)
    flat = value.reshape(-1, *value.shape[len(axes) :]).clone()
    flat[target.to(flat.device)] = flat[source.to(flat.device)]
    tensor.copy_(flat.reshape(value.shape).movedim(lead, axes))

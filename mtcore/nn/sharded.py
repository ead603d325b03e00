"""Sharded tensors (DTensor): quantize shard by shard where that is exact, else on the gathered tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor, Placement


def is_sharded(x: Tensor) -> bool:
    """Whether x is a DTensor; torch.distributed is not imported for plain tensors."""
    if type(x) is Tensor or type(x) is nn.Parameter:
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(x, DTensor)


def whole(x: Tensor) -> Tensor:
    """A plain tensor: x itself, or what the shards of all ranks make up, for which all of them must ask."""
    if not is_sharded(x):
        return x
    gathered: Tensor = x.full_tensor()  # type: ignore[attr-defined]
    return gathered


def on_shards(
    quantize: Callable[[Tensor], Tensor], x: Tensor, exact_when_cut: Callable[[Tensor, int, int], bool]
) -> Tensor:
    """Quantize a DTensor, with the very result that the whole tensor would have; placements stay.

    Every rank works on its own shard where no scale is worked out across shards; otherwise the tensor is gathered
    first and cut again afterwards. A tensor of partial sums is summed up first and comes back replicated.

    Args:
        quantize: takes and gives a plain tensor of one shape.
        x: the DTensor.
        exact_when_cut: of the whole tensor, an axis and the number of equal parts that it is cut into: whether the
            parts, quantized apart, are what the whole would be.
    """
    from torch.distributed.tensor import DTensor, Replicate

    assert isinstance(x, DTensor)
    target = tuple(Replicate() if placement.is_partial() else placement for placement in x.placements)
    local = all(_stays_exact(x, dim, placement, exact_when_cut) for dim, placement in enumerate(target))
    work = target if local else tuple(Replicate() for _ in target)
    done = quantize(x.redistribute(placements=work).to_local())
    result = DTensor.from_local(done, x.device_mesh, work, run_check=False, shape=x.shape, stride=x.stride())
    return result.redistribute(placements=target)


def _stays_exact(
    x: DTensor, mesh_dim: int, placement: Placement, exact_when_cut: Callable[[Tensor, int, int], bool]
) -> bool:
    if placement.is_replicate():
        return True
    if not placement.is_shard():
        return False
    axis: int = placement.dim % x.dim()  # type: ignore[attr-defined]
    return exact_when_cut(x, axis, x.device_mesh.size(mesh_dim))

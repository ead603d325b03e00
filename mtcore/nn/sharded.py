"""Sharded tensors (DTensor): quantize shard by shard where that is exact, else on the gathered tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from mtcore.formats import PER_TENSOR, WHOLE
from mtcore.nn.views import TokenView

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor, Placement

    from mtcore.nn.tensor_quantizer import TensorQuantizer


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


def on_shards(quantizer: TensorQuantizer, x: Tensor) -> Tensor:
    """Quantize a DTensor, with the very result that the whole tensor would have; placements stay.

    Every rank works on its own shard where no scale is worked out across shards; otherwise the tensor is gathered
    first and cut again afterwards. A tensor of partial sums is summed up first and comes back replicated.
    """
    from torch.distributed.tensor import DTensor, Replicate

    assert isinstance(x, DTensor)
    target = tuple(Replicate() if placement.is_partial() else placement for placement in x.placements)
    local = all(_exact_on_shards(quantizer, x, dim, placement) for dim, placement in enumerate(target))
    work = target if local else tuple(Replicate() for _ in target)
    done = quantizer(x.redistribute(placements=work).to_local())
    result = DTensor.from_local(done, x.device_mesh, work, run_check=False, shape=x.shape, stride=x.stride())
    return result.redistribute(placements=target)


def _exact_on_shards(quantizer: TensorQuantizer, x: DTensor, mesh_dim: int, placement: Placement) -> bool:
    fmt = quantizer.format
    if placement.is_replicate():
        return True
    if quantizer.observer is not None or not placement.is_shard() or x.dim() < 2:
        return False
    if fmt.outer is not None and quantizer.outer_amax is None:
        return False
    transformed = any(t is not None for t in (quantizer.pre_quant_scale, quantizer.rotation, quantizer.bias))
    if fmt.block == PER_TENSOR and not transformed:
        return quantizer.amax is not None or quantizer.low is not None
    if fmt.block.rows != 1 or quantizer.amax is not None or quantizer.low is not None:
        return False
    axis: int = placement.dim % x.dim()  # type: ignore[attr-defined]
    if _is_row_axis(quantizer, axis, x.dim()):
        return True
    last_of_matrix = axis == x.dim() - 1 and (x.dim() == 2 or not quantizer.is_weight)
    whole_blocks = fmt.block.cols != WHOLE and x.shape[axis] % (x.device_mesh.size(mesh_dim) * fmt.block.cols) == 0
    return last_of_matrix and whole_blocks and not transformed


def _is_row_axis(quantizer: TensorQuantizer, axis: int, dims: int) -> bool:
    """Whether cutting this axis leaves every row of the matrix whole."""
    view = quantizer.view
    if isinstance(view, TokenView):
        return axis != view.feature_axis % dims
    return view.row_axis == axis

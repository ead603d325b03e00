"""Layer: one quantized matrix as the file holds it, and its values taken from the artifact."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mtcore.export import LowRankBranch, QuantizedModule
from mtcore.formats import WHOLE
from mtcore.numerics import QParams, QTensor
from mtcore.plan import SlotPlan
from mtopt_hf.checkpoint.pairs import Pair


@dataclass(frozen=True)
class Layer:
    """One matrix.

    Attributes:
        name: of its module in the file: "model.layers.0.mlp.experts.3.up_proj".
        pair: the weight and input that it is, or is a part of.
        expert: which of the stacked matrices; None of a plain one, and where the file holds them stacked.
        rows: the rows [first, end) of the matrix that lie here; others lie in another layer.
    """

    name: str
    pair: Pair
    expert: int | None = None
    rows: tuple[int, int] | None = None

    @property
    def weight(self) -> SlotPlan:
        assert self.pair.weight is not None, "a layer without a quantized weight"
        return self.pair.weight

    @property
    def input(self) -> SlotPlan | None:
        return self.pair.input

    @property
    def spelled(self) -> tuple[object, ...]:
        """What decides how it is spelled."""
        given = self.input
        extras = (self.pair.module.pre_quant_scale, bool(self.pair.module.low_rank))
        named_after = self.pair.parameter if self.stacked else ""
        return (self.weight.format, None if given is None else (given.format, given.mode), extras, named_after)

    @property
    def stacked(self) -> bool:
        """Whether it is the matrices of all experts at once."""
        return self.expert is None and self.pair.experts is not None

    @property
    def shape(self) -> tuple[int, int]:
        """Output and input features."""
        first, end = self.rows or (0, self.pair.rows)
        return end - first, self.pair.cols

    def values(self, module: QuantizedModule) -> LayerValues:
        """Its codes and scales."""
        stack: tuple[QTensor, ...] = ()
        if self.stacked:
            assert self.pair.experts is not None
            stack = tuple(module.weights[f"{self.pair.parameter}.{e}"] for e in range(self.pair.experts))
            weight = stack[0]
        else:
            key = self.pair.parameter if self.expert is None else f"{self.pair.parameter}.{self.expert}"
            weight = module.weights[key]
        if self.rows is not None:
            weight = rows_of(weight, *self.rows)
        given = module.activations.get(self.pair.input_key)
        return LayerValues(weight, given, module.pre_quant_scale, module.low_rank, stack)


@dataclass(frozen=True)
class LayerValues:
    """Codes and scales of one layer.

    Attributes:
        weight: of the matrix; of several, of the first one.
        input: calibrated scales of the input; None where it is dynamic or not quantized.
        pre_quant_scale, low_rank: what else the layer holds; see `QuantizedModule`.
        stack: the matrices of all experts, where the layer is these.
    """

    weight: QTensor
    input: QParams | None
    pre_quant_scale: Tensor | None = None
    low_rank: LowRankBranch | None = None
    stack: tuple[QTensor, ...] = ()

    @property
    def kind(self) -> tuple[object, ...]:
        """Shapes and dtypes of all that it holds: layers of one kind, spelled alike, have tensors alike."""
        held = [*self.weight.tensors().values(), self.pre_quant_scale]
        held += [] if self.input is None else [self.input.scale, self.input.scale_2]
        held += [] if self.low_rank is None else [self.low_rank.up, self.low_rank.down]
        facts = tuple(None if tensor is None else (tensor.shape, tensor.dtype) for tensor in held)
        return (*facts, self.weight.rows, self.weight.cols, self.weight.dtype, len(self.stack))

    def on_meta(self) -> LayerValues:
        """The same shapes and dtypes without values."""
        given = None if self.input is None else _meta_scales(self.input)
        scale = None if self.pre_quant_scale is None else _meta(self.pre_quant_scale)
        branch = self.low_rank
        if branch is not None:
            branch = LowRankBranch(_meta(branch.up), _meta(branch.down))
        return LayerValues(_meta_matrix(self.weight), given, scale, branch, tuple(map(_meta_matrix, self.stack)))


def rows_of(q: QTensor, first: int, end: int) -> QTensor:
    """Some rows of a quantized matrix, with the very codes and scales.

    Blocks of several rows must not be cut; `cuts_blocks` tells.
    """
    high = q.format.block.rows
    scale, zero_point = q.qparams.scale, q.qparams.zero_point
    if high != WHOLE:
        grid = slice(first // high, -(-end // high))
        scale, zero_point = scale[grid], None if zero_point is None else zero_point[grid]
    qparams = replace(q.qparams, scale=scale, zero_point=zero_point)
    return QTensor(q.qdata[first:end], qparams, end - first, q.cols, torch.Size((end - first, q.cols)), q.dtype)


def cuts_blocks(pair: Pair, rows: tuple[int, int]) -> bool:
    """Whether these rows begin or end inside a block of the weight's format."""
    assert pair.weight is not None
    high = pair.weight.format.block.rows
    return high != WHOLE and bool(rows[0] % high or (rows[1] % high and rows[1] != pair.rows))


def _meta(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta")


def _meta_matrix(q: QTensor) -> QTensor:
    return replace(q, qdata=_meta(q.qdata), qparams=_meta_scales(q.qparams))


def _meta_scales(qparams: QParams) -> QParams:
    scale_2 = None if qparams.scale_2 is None else _meta(qparams.scale_2)
    zero_point = None if qparams.zero_point is None else _meta(qparams.zero_point)
    return QParams(qparams.format, _meta(qparams.scale), scale_2, zero_point)

"""The load operation: codes and scales of a file become float weights, and their magnitudes are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.core_model_loading import ConversionOps

from mtcore.errors import ModelError
from mtcore.formats import PER_TENSOR, TensorFormat
from mtcore.nn import spread_blocks
from mtcore.numerics import QParams, QTensor, dequantize
from mtopt_hf.quantizer.amax import amax_of, outer_amax_of, scale_2_of
from mtopt_hf.quantizer.groups import Group, group_of
from mtopt_hf.quantizer.read import read_weight

Pieces = Mapping[str, Sequence[Tensor]]
"""Local name → that tensor of every matrix that goes into one parameter."""


@dataclass(frozen=True)
class Coded:
    """A parameter that came from codes: one matrix, or one an expert.

    Attributes:
        group: its formats.
        amax: of each matrix the magnitudes of its blocks, fp32 [grid rows, grid cols].
        outer_amax: of each matrix the magnitude of the outer level, fp32 [], or None.
        channel_axis: the axis of the parameter along which the rows of the file's matrices lie.
        input_amax: largest magnitude of the input, fp32 [], or None where it is not static.
    """

    group: Group
    amax: tuple[Tensor, ...]
    outer_amax: tuple[Tensor | None, ...]
    channel_axis: int
    input_amax: Tensor | None


@dataclass
class Found:
    """What the load operations came upon, by the name of the parameter."""

    groups: Sequence[Group]
    coded: dict[str, Coded] = field(default_factory=dict)


class Decode(ConversionOps):
    """Takes the serialized tensors of one or many matrices and gives the weights; others pass through.

    In a converter that merges the matrices of experts it comes first; `rest` are the operations that follow. They
    run on the magnitudes too, so that these lie where the weights lie, whatever the layout is.
    """

    supports_many_to_many = True  # a weight with its scales may be the source of several parameters

    def __init__(self, hf_quantizer: Any, rest: Sequence[ConversionOps] = ()) -> None:
        self.hf_quantizer, self.rest = hf_quantizer, tuple(rest)

    def __deepcopy__(self, memo: Any) -> Decode:
        return self  # transformers copies its converters for every parameter; this one has nothing of its own

    @torch.no_grad()
    def convert(  # type: ignore[override]  # transformers gives these by name
        self, input_dict: dict[str, Any], full_layer_name: str, model: Any, **context: Any
    ) -> dict[str, Any]:
        parts = _by_matrix(input_dict)
        dtype = model.get_parameter(full_layer_name).dtype
        context |= {"full_layer_name": full_layer_name, "model": model}
        if all(set(pieces) == {"weight"} for pieces in parts.values()):
            plain = {stem: [w.to(dtype) for w in pieces["weight"]] for stem, pieces in parts.items()}
            return self._named(plain, full_layer_name)
        found: Found = self.hf_quantizer.found
        group = group_of(full_layer_name.rpartition(".")[0], found.groups)
        matrices = {stem: _read(pieces, group.weight, dtype) for stem, pieces in parts.items()}
        amax, outer, axis = self._magnitudes(matrices, group.weight, context)
        found.coded[full_layer_name] = Coded(group, amax, outer, axis, _input_amax(parts, group))
        weights = {stem: [dequantize(q, dtype) for q in qs] for stem, qs in matrices.items()}
        return self._named(weights, full_layer_name)

    def _named(self, weights: dict[str, list[Tensor]], name: str) -> dict[str, Any]:
        if not self.rest:
            (only,) = weights.values()
            return {name: only[0]}
        return {f"{stem}weight": tensors for stem, tensors in weights.items()}

    def _magnitudes(
        self, matrices: Mapping[str, Sequence[QTensor]], fmt: TensorFormat, context: dict[str, Any]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...], int]:
        """Magnitudes of blocks and of the tensor for each matrix of the parameter, and its channel axis."""
        if not self.rest:
            ((q,),) = matrices.values()
            scale_2 = q.qparams.scale_2
            return (amax_of(q.qparams),), (None if scale_2 is None else outer_amax_of(scale_2, fmt),), 0

        def laid_out(of: Callable[[QTensor], Tensor]) -> Tensor:
            return self._laid_out({stem: [of(q) for q in qs] for stem, qs in matrices.items()}, context)

        everywhere, rows = laid_out(_block_amax), laid_out(_rows)
        if rows.dim() == 2:
            axis, amax = 0, [everywhere]
        else:
            axis = 1 if bool((rows[:, :, :1] == rows).all()) else 2
            amax = [one if axis == 1 else one.T for one in everywhere]
        grids = tuple(_grid(one, fmt) for one in amax)
        if fmt.outer is None:
            return grids, (None,) * len(grids), axis
        outer = laid_out(_tensor_amax).reshape(len(grids), -1)
        return grids, tuple(one.max() for one in outer), axis

    def _laid_out(self, tensors: dict[str, list[Tensor]], context: dict[str, Any]) -> Tensor:
        """The tensors after the operations that the weights go through."""
        collected = self._named(tensors, "")
        for operation in self.rest:
            collected = operation.convert(collected, **context)
        if len(collected) != 1:
            raise ModelError(f"{context['full_layer_name']}: the file holds its codes together with others'")
        (only,) = collected.values()
        result: Tensor = only[0] if isinstance(only, list) else only
        return result

    @property
    def reverse_op(self) -> ConversionOps:
        raise NotImplementedError("mtopt_hf.quantizer writes its checkpoints itself")


def _by_matrix(collected: Mapping[str, Any]) -> dict[str, dict[str, list[Tensor]]]:
    """From name patterns to the tensors of each matrix: the pattern up to the local name → local name → tensors."""
    parts: dict[str, dict[str, list[Tensor]]] = {}
    for pattern, tensors in collected.items():
        head, dot, local = pattern.rpartition(".")
        parts.setdefault(head + dot, {})[local.removesuffix("$")] = (
            tensors if isinstance(tensors, list) else [tensors]
        )
    return parts


def _read(pieces: Pieces, fmt: TensorFormat, dtype: torch.dtype) -> list[QTensor]:
    count = max(map(len, pieces.values()))
    return [read_weight({name: t[i] for name, t in pieces.items()}, fmt, dtype) for i in range(count)]


def _block_amax(q: QTensor) -> Tensor:
    """The magnitude of its block, for every element."""
    return spread_blocks(amax_of(q.qparams), q.rows, q.cols, *q.format.block.extents(q.rows, q.cols))


def _tensor_amax(q: QTensor) -> Tensor:
    """The magnitude of the whole matrix, for every element."""
    assert q.qparams.scale_2 is not None
    return outer_amax_of(q.qparams.scale_2, q.format).expand(q.rows, q.cols)


def _grid(everywhere: Tensor, fmt: TensorFormat) -> Tensor:
    """One magnitude a block, of the magnitudes of all elements; for the whole matrix, the largest of its parts."""
    if fmt.block == PER_TENSOR:
        return everywhere.amax().reshape(1, 1)
    high, wide = fmt.block.extents(*everywhere.shape)
    return everywhere[::high, ::wide]


def _rows(q: QTensor) -> Tensor:
    return torch.arange(q.rows, dtype=torch.float32)[:, None].expand(q.rows, q.cols)


def _input_amax(parts: Mapping[str, Pieces], group: Group) -> Tensor | None:
    """The largest over all matrices: experts of one layer share their input's quantizer."""
    if group.input is None:
        return None
    fmt, _ = group.input
    scales = [scale.float() for pieces in parts.values() for scale in pieces.get("input_scale", ())]
    divisors = [d for pieces in parts.values() for d in pieces.get("input_global_scale", ())]
    if fmt.outer is None:
        scale = torch.stack([s.reshape(()) for s in scales]).max() if scales else None
        return None if scale is None else amax_of(QParams(fmt, scale.reshape(1, 1))).reshape(())
    least = torch.stack([d.reshape(()) for d in divisors]).min() if divisors else None
    return None if least is None else outer_amax_of(scale_2_of(least, fmt), fmt)

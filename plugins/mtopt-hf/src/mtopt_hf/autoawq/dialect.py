"""AutoAWQ's checkpoints (version gemm) as a dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from mtcore.export import DEFAULT_SHARD_BYTES, Artifact
from mtcore.numerics import QTensor
from mtcore.plan import Plan
from mtopt_hf import checkpoint
from mtopt_hf.autoawq.spelling import BITS, ORDER, SPELLINGS
from mtopt_hf.checkpoint.alone import alone_problems, one_group_size
from mtopt_hf.checkpoint.attention import attention_notes
from mtopt_hf.checkpoint.dialect import Contents, Description, Dialect
from mtopt_hf.checkpoint.halves import HALF_NOTE, halves
from mtopt_hf.checkpoint.layer import Layer, LayerValues
from mtopt_hf.checkpoint.nibbles import turned
from mtopt_hf.checkpoint.pairs import Pair
from mtopt_hf.checkpoint.problems import plan_problems
from mtopt_hf.checkpoint.words import turned_words, unsigned_zeros, words

NAME = "awq"


def check_plan(plan: Plan) -> Sequence[str]:
    """Problems of the plan, each with the modules that have it and what to do; empty if all can be written."""
    return [*plan_problems(plan, NAME, _pair_problems), *one_group_size(plan, NAME)]


def notes(plan: Plan) -> Sequence[str]:
    """What is written in another way than the plan says."""
    return (HALF_NOTE, *attention_notes(plan, NAME))


def layer_tensors(layer: Layer, values: LayerValues) -> Mapping[str, Callable[[], Tensor]]:
    """Codes and scales of a layer, by local name, with o outputs, i inputs and groups of g.

    - `qweight` int32 [i, o/8]: unsigned codes, eight outputs in a word, in AutoAWQ's order.
    - `qzeros` int32 [i/g, o/8]: the codes of zero, likewise; 8 where the format has no zero point.
    - `scales` fp16 [i/g, o].
    """
    q = values.weight
    return {
        "qweight": lambda: turned_words(q, ORDER),
        "qzeros": lambda: _turned_zeros(q),
        "scales": lambda: halves(q.qparams.scale, layer.name).t().contiguous(),
    }


def describe(contents: Contents) -> Description:
    """The `quantization_config`; layers that stay are named exactly."""
    quantization = {
        "quant_method": NAME,
        "version": "gemm",
        "bits": BITS,
        "group_size": contents.layers[0].weight.format.block.cols,
        "zero_point": True,
        "modules_to_not_convert": list(contents.ignore) or None,
    }
    return Description({**contents.missing_dtype, "quantization_config": quantization})


AWQ = Dialect(NAME, layer_tensors, describe)


def write_checkpoint(artifact: Artifact, folder: Path, max_shard_bytes: int = DEFAULT_SHARD_BYTES) -> None:
    """Write an artifact as AutoAWQ does; see `checkpoint.write_checkpoint`."""
    checkpoint.write_checkpoint(artifact, folder, AWQ, max_shard_bytes)


def _turned_zeros(q: QTensor) -> Tensor:
    zeros = unsigned_zeros(q)
    return turned(words(zeros, BITS), ORDER)[: zeros.shape[1]]


def _pair_problems(pair: Pair) -> Iterator[str]:
    yield from alone_problems(pair, NAME, [spelling.weight for spelling in SPELLINGS])
    if pair.rows % len(ORDER):
        yield f"out_features {pair.rows} is not a multiple of {len(ORDER)}, which {NAME} needs; exclude it"

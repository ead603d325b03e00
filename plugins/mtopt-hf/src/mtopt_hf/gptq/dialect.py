"""GPTQ's checkpoints as a dialect."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mtcore.export import DEFAULT_SHARD_BYTES, Artifact
from mtcore.formats import TensorFormat
from mtcore.numerics import QTensor
from mtcore.plan import Plan, SlotPlan
from mtopt_hf import checkpoint
from mtopt_hf.checkpoint.alone import alone_problems, one_group_size
from mtopt_hf.checkpoint.attention import attention_notes
from mtopt_hf.checkpoint.dialect import Contents, Description, Dialect
from mtopt_hf.checkpoint.halves import HALF_NOTE, halves
from mtopt_hf.checkpoint.layer import Layer, LayerValues
from mtopt_hf.checkpoint.pairs import Pair, pairs_of
from mtopt_hf.checkpoint.problems import plan_problems
from mtopt_hf.checkpoint.words import standing_words, unsigned_zeros, words
from mtopt_hf.gptq.spelling import SPELLINGS, Spelling
from mtopt_hf.same import same_when_stored

NAME = "gptq"
_WORD_BITS = 32


def check_plan(plan: Plan) -> Sequence[str]:
    """Problems of the plan, each with the modules that have it and what to do; empty if all can be written."""
    found = [*plan_problems(plan, NAME, _pair_problems), *one_group_size(plan, NAME)]
    slots = [pair.weight for module in plan.quantized for pair in pairs_of(module) if pair.weight is not None]
    if not found and len({spelling_of(slot).version for slot in slots}) > 1:
        found.append(f"{NAME} has zero points in all layers or in none; choose one format")
    return found


def notes(plan: Plan) -> Sequence[str]:
    """What is written in another way than the plan says."""
    return (HALF_NOTE, *attention_notes(plan, NAME))


def spelling_of(weight: SlotPlan) -> Spelling:
    """The spelling of a slot that `check_plan` found nothing wrong with."""
    return _spelling_of(weight.format)


@cache
def _spelling_of(fmt: TensorFormat) -> Spelling:
    return next(spelling for spelling in SPELLINGS if same_when_stored(spelling.weight, fmt))


def layer_tensors(layer: Layer, values: LayerValues) -> Mapping[str, Callable[[], Tensor]]:
    """Codes and scales of a layer, by local name, with o outputs, i inputs, b bits and groups of g.

    - `qweight` int32 [i·b/32, o]: unsigned codes, dense along i, the first in the lowest bits.
    - `qzeros` int32 [i/g, o·b/32]: the codes of zero, dense along o; in version 1, minus one.
    - `scales` fp16 [i/g, o]; `g_idx` int32 [i]: the group of each input.
    """
    q, spelling = values.weight, spelling_of(layer.weight)
    off = 1 if spelling.version == "gptq" else 0
    return {
        "qweight": lambda: standing_words(q),
        "qzeros": lambda: words((unsigned_zeros(q) - off).t(), spelling.bits),
        "scales": lambda: halves(q.qparams.scale, layer.name).t().contiguous(),
        "g_idx": lambda: _groups(q, spelling),
    }


def describe(contents: Contents) -> Description:
    """The `quantization_config`. Layers that stay are named exactly, as rules that switch quantization off."""
    spelling = spelling_of(contents.layers[0].weight)
    quantization = {
        "quant_method": NAME,
        "bits": spelling.bits,
        "group_size": spelling.group_size,
        "sym": spelling.symmetric,
        "desc_act": False,
        "lm_head": any(layer.name == "lm_head" for layer in contents.layers),
        "checkpoint_format": spelling.version,
        "pack_dtype": "int32",
        "dynamic": {f"-:^{re.escape(name)}$": {} for name in contents.ignore},
    }
    return Description({**contents.missing_dtype, "quantization_config": quantization})


GPTQ = Dialect(NAME, layer_tensors, describe)


def write_checkpoint(artifact: Artifact, folder: Path, max_shard_bytes: int = DEFAULT_SHARD_BYTES) -> None:
    """Write an artifact as GPTQModel does; see `checkpoint.write_checkpoint`."""
    checkpoint.write_checkpoint(artifact, folder, GPTQ, max_shard_bytes)


def _groups(q: QTensor, spelling: Spelling) -> Tensor:
    size = q.cols if spelling.group_size < 0 else spelling.group_size
    return torch.arange(q.cols, dtype=torch.int32, device=q.qdata.device) // size


def _pair_problems(pair: Pair) -> Iterator[str]:
    yield from alone_problems(pair, NAME, [spelling.weight for spelling in SPELLINGS])
    assert pair.weight is not None
    bits = pair.weight.format.element.bits
    for what, count in (("in_features", pair.cols), ("out_features", pair.rows)):
        if count * bits % _WORD_BITS:
            yield f"{what} {count} of {bits} bits do not fill words of {_WORD_BITS}, as {NAME} needs; exclude it"

"""Checkpoints as OpenAI writes gpt-oss: blocks and scales of stacked experts, all else as it was.

Facts: transformers 5.23 (`quantizers/quantizer_mxfp4.py`, `integrations/mxfp4.py`) and vLLM 0.32
(`models/gpt_oss.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mtcore.export import DEFAULT_SHARD_BYTES, Artifact, SourceFiles
from mtcore.formats.catalog import MXFP4
from mtcore.plan import Plan
from mtopt_hf import checkpoint
from mtopt_hf.checkpoint.attention import attention_notes
from mtopt_hf.checkpoint.dialect import Contents, Description, Dialect
from mtopt_hf.checkpoint.layer import Layer, LayerValues
from mtopt_hf.checkpoint.pairs import STACKED, Pair
from mtopt_hf.checkpoint.problems import plan_problems
from mtopt_hf.same import same_when_stored

NAME = "mxfp4"

_BESIDE = ("gate_up_proj_bias", "down_proj_bias")
"""What marks the layout that clients of this dialect know: experts with biases, turned, gates and ups in turn."""


def check_plan(plan: Plan) -> Sequence[str]:
    """Problems of the plan, each with the modules that have it and what to do; empty if all can be written."""
    return plan_problems(plan, NAME, _pair_problems)


def check_source(plan: Plan, source: SourceFiles) -> Sequence[str]:
    """What the model's configuration adds: experts that the hub does not stack as they lie in memory."""
    return checkpoint.source_problems(plan, source, stacked=True)


def notes(plan: Plan) -> Sequence[str]:
    """What is left out."""
    return tuple(attention_notes(plan, NAME))


def layer_tensors(layer: Layer, values: LayerValues) -> Mapping[str, Callable[[], Tensor]]:
    """Codes and scales of all experts, with E of them, o outputs and i inputs of each, after the parameter's name:

    - `…_blocks` uint8 [E, o, i/32, 16]: 4-bit floats, the even input in the low bits.
    - `…_scales` uint8 [E, o, i/32]: exponents.
    """
    size = MXFP4.block.cols

    def blocks() -> Tensor:
        return torch.stack([q.qdata.view(q.rows, q.cols // size, size // 2) for q in values.stack])

    def scales() -> Tensor:
        return torch.stack([q.qparams.scale for q in values.stack])

    return {f"{layer.pair.parameter}_blocks": blocks, f"{layer.pair.parameter}_scales": scales}


def describe(contents: Contents) -> Description:
    """The `quantization_config`; modules that stay are named exactly."""
    quantization = {"quant_method": NAME, "modules_to_not_convert": list(contents.ignore)}
    return Description({**contents.missing_dtype, "quantization_config": quantization})


MXFP4_EXPERTS = Dialect(NAME, layer_tensors, describe, stacked=True)


def write_checkpoint(artifact: Artifact, folder: Path, max_shard_bytes: int = DEFAULT_SHARD_BYTES) -> None:
    """Write an artifact as OpenAI does; see `checkpoint.write_checkpoint`."""
    checkpoint.write_checkpoint(artifact, folder, MXFP4_EXPERTS, max_shard_bytes)


def _pair_problems(pair: Pair) -> Iterator[str]:
    weight, given = pair.weight, pair.input
    assert weight is not None
    if pair.module.spec != STACKED:
        yield f"{NAME} holds quantized experts alone; exclude it"
        return
    if given is not None:
        yield f"{NAME} holds weights alone; switch off the rule on inputs ({given.rule})"
    if not same_when_stored(MXFP4, weight.format):
        yield (
            f"format {weight.format.name} ({weight.slot}, {weight.rule}) cannot be spelled in {NAME}; "
            f"it has {MXFP4.name}"
        )
    elif pair.cols % MXFP4.block.cols:
        yield f"in_features {pair.cols} is not a multiple of {MXFP4.block.cols}, which {NAME} needs; exclude it"
    shapes = dict(pair.module.shapes)
    if not pair.transposed or any(name not in shapes for name in _BESIDE):
        yield (
            f"clients of {NAME} know the experts of gpt-oss: [experts, in, out] with {' and '.join(_BESIDE)}; "
            "exclude it"
        )

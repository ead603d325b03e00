"""DeepSeek's fp8 checkpoints as a dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from mtcore.export import DEFAULT_SHARD_BYTES, Artifact
from mtcore.plan import Plan
from mtopt_hf import checkpoint
from mtopt_hf.checkpoint.attention import attention_notes
from mtopt_hf.checkpoint.dialect import Contents, Description, Dialect
from mtopt_hf.checkpoint.layer import Layer, LayerValues
from mtopt_hf.checkpoint.pairs import Pair
from mtopt_hf.checkpoint.problems import plan_problems
from mtopt_hf.fp8.spelling import SPELLINGS
from mtopt_hf.same import same_when_stored

NAME = "fp8"


def check_plan(plan: Plan) -> Sequence[str]:
    """Problems of the plan, each with the modules that have it and what to do; empty if all can be written."""
    return plan_problems(plan, NAME, _pair_problems)


def notes(plan: Plan) -> Sequence[str]:
    """What is left out."""
    return tuple(attention_notes(plan, NAME))


def layer_tensors(layer: Layer, values: LayerValues) -> Mapping[str, Callable[[], Tensor]]:
    """`weight` float8 [o, i]; `weight_scale_inv` fp32 [ceil(o/128), ceil(i/128)], a multiplier for all its name."""
    q = values.weight
    return {"weight": lambda: q.qdata, "weight_scale_inv": lambda: q.qparams.scale}


def describe(contents: Contents) -> Description:
    """The `quantization_config`; layers that stay are named exactly."""
    block = contents.layers[0].weight.format.block
    quantization = {
        "quant_method": NAME,
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [block.rows, block.cols],
        "modules_to_not_convert": list(contents.ignore),
    }
    return Description({**contents.missing_dtype, "quantization_config": quantization})


FP8 = Dialect(NAME, layer_tensors, describe)


def write_checkpoint(artifact: Artifact, folder: Path, max_shard_bytes: int = DEFAULT_SHARD_BYTES) -> None:
    """Write an artifact as DeepSeek does; see `checkpoint.write_checkpoint`."""
    checkpoint.write_checkpoint(artifact, folder, FP8, max_shard_bytes)


def _pair_problems(pair: Pair) -> Iterator[str]:
    weight, given = pair.weight, pair.input
    assert weight is not None
    known = [spelling for spelling in SPELLINGS if same_when_stored(spelling.weight, weight.format)]
    if not known or (given is not None and not any(same_when_stored(s.input, given.format) for s in known)):
        beside = (
            "inputs that are not quantized" if given is None else f"inputs in {given.format.name} ({given.rule})"
        )
        having = ", ".join(f"{spelling.weight.name} + {spelling.input.name}" for spelling in SPELLINGS)
        yield (
            f"format {weight.format.name} ({weight.slot}, {weight.rule}) with {beside} cannot be spelled in "
            f"{NAME}; it has {having}"
        )
    elif given is None:
        yield f"clients of {NAME} quantize inputs, which {weight.rule} does not; add a rule with input fp8_1x128"

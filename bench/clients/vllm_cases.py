"""What is asked of vLLM: formats by name, the models that each is written for, and what vLLM computes instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CT, MODELOPT = "compressed-tensors", "modelopt"
EXCLUDED = {"include": "base_exclusions"}
TOKENWISE = {"format": "int8_row", "mode": "dynamic"}
STATIC_FP8 = {"format": "fp8", "mode": "static"}
FP8_CACHE = {"k": {"format": "fp8", "amax": 448}, "v": {"format": "fp8", "amax": 448}}
FP8_QUERIES = {"q": {"format": "fp8", "amax": 448}}
EXPERTS = ["*.experts*"]
DENSE = ("trained, GQA", "dense", "tied, GQA")
MOE = ("MoE",)
EVERY = (*DENSE, *MOE)
NARROW, GPT_OSS = "narrow keys", "gpt-oss"


@dataclass(frozen=True)
class Case:
    """One row of the tables.

    Attributes:
        dialect, recipe: what is written.
        models: for which models.
        instead: how vLLM departs from the recipe on purpose, by the device: a key of `INSTEAD`.
    """

    dialect: str
    recipe: Any
    models: tuple[str, ...] = EVERY
    instead: Mapping[str, str] | None = None


INSTEAD = {
    "4-bit weights only": "inputs of 4-bit weights are not rounded",
    "weights only": "inputs are not rounded",
    "FP8 blocks": "inputs are rounded, in runs of 128",
    "queries too": "queries are cast to FP8 beside an FP8 cache that comes without q_scale",
    "cache toward zero": "keys and values are rounded toward zero, queries not at all",
}
"""What vLLM computes where that is not the recipe."""

GPU_WEIGHTS = {"gpu": "4-bit weights only"}
GPU_MX8 = {"gpu": "weights only"}
CPU_CACHE = {"cpu": "cache toward zero"}
GPU_QUERIES = {"gpu": "queries too", **CPU_CACHE}


def _all(**slots: Any) -> dict[str, Any]:
    return {"rules": [slots, EXCLUDED]}


def _beside(base: str, **rule: Any) -> dict[str, Any]:
    return {"include": [base], "rules": [rule]}


_ATTENTION_FP8 = {"modules": ["*self_attn*"], "weight": "fp8", "input": STATIC_FP8}
_ATTENTION_FP8_ROW = {"modules": ["*self_attn*"], "weight": "fp8_row", "input": "fp8_row"}
_ALONE = {"max_unquantized": 1.0}

CASES: dict[str, Case] = {
    "INT8": Case(CT, _all(weight="int8_row", input=TOKENWISE)),
    "INT8 static": Case(CT, "int8_static", DENSE),
    "INT8 weights": Case(CT, "int8_weight_only"),
    "W4A16": Case(CT, _all(weight="int4_b32")),
    "W4A16, zero points": Case(CT, "int4_asym_weight_only"),
    "W4A8": Case(CT, _all(weight="int4_b128", input={"format": "fp8_row", "mode": "dynamic"})),
    "AWQ": Case("awq", _all(weight="int4_b32_asym")),
    "GPTQ": Case("gptq", _all(weight="int4_b32")),
    "FP8 static": Case(CT, "fp8"),
    "FP8 dynamic": Case(CT, "fp8_row"),
    "FP8 weights": Case(CT, "fp8_weight_only", DENSE),
    "FP8 blocks": Case(CT, "fp8_block", (*EVERY, NARROW)),
    "NVFP4": Case(CT, "nvfp4", instead=GPU_WEIGHTS),
    "NVFP4A16": Case(CT, "nvfp4_weight_only"),
    "MXFP4": Case(CT, "mxfp4", instead=GPU_WEIGHTS),
    "MXFP4A16": Case(CT, "mxfp4_weight_only"),
    "MXFP8": Case(CT, "mxfp8", instead=GPU_MX8),
    "NVFP4, attention FP8": Case(CT, {"include": ["nvfp4"], "rules": [_ATTENTION_FP8]}, instead=GPU_WEIGHTS),
    "NVFP4 experts": Case(CT, "nvfp4_experts_only", MOE, GPU_WEIGHTS),
    "MXFP4 experts": Case(CT, "mxfp4_experts_only", MOE),
    "INT4 experts, attention FP8": Case(
        CT, {"rules": [{"modules": EXPERTS, "weight": "int4_b32"}, _ATTENTION_FP8_ROW, EXCLUDED], **_ALONE}, MOE
    ),
    "FP8 experts, attention INT8": Case(
        CT,
        {
            "rules": [
                {"modules": EXPERTS, "weight": "fp8_row", "input": "fp8_row"},
                {"modules": ["*self_attn*"], "weight": "int8_row", "input": TOKENWISE},
                EXCLUDED,
            ]
        },
        MOE,
    ),
    "FP8, KV cache FP8": Case(CT, "fp8_kv_fp8", instead=GPU_QUERIES),
    "FP8, KV cache FP8 cast": Case(CT, "fp8_kv_fp8_cast", instead=GPU_QUERIES),
    "W4A16, KV cache FP8, queries FP8": Case(
        CT, _beside("int4_weight_only", k="fp8", v="fp8", q="fp8"), instead=CPU_CACHE
    ),
    "modelopt FP8": Case(MODELOPT, "fp8"),
    "modelopt FP8_PER_CHANNEL_PER_TOKEN": Case(MODELOPT, "fp8_row"),
    "modelopt FP8_PB_WO": Case(
        MODELOPT, "fp8_block_weight_only", (*EVERY, NARROW), {"gpu": "FP8 blocks", "cpu": "FP8 blocks"}
    ),
    "modelopt NVFP4": Case(MODELOPT, "nvfp4", instead=GPU_WEIGHTS),
    "modelopt W4A16_NVFP4": Case(MODELOPT, "nvfp4_weight_only"),
    "modelopt MXFP8": Case(MODELOPT, "mxfp8", instead=GPU_MX8),
    "modelopt MIXED_PRECISION": Case(
        MODELOPT, {"include": ["nvfp4"], "rules": [_ATTENTION_FP8]}, instead=GPU_WEIGHTS
    ),
    "modelopt NVFP4 experts": Case(MODELOPT, "nvfp4_experts_only", MOE, GPU_WEIGHTS),
    "modelopt FP8, KV cache FP8": Case(MODELOPT, "fp8_kv_fp8", instead=GPU_QUERIES),
    "modelopt FP8, KV cache FP8 cast": Case(MODELOPT, "fp8_kv_fp8_cast", instead=GPU_QUERIES),
    "modelopt FP8, KV cache FP8, queries FP8": Case(
        MODELOPT, _beside("fp8", k="fp8", v="fp8", q="fp8"), instead=CPU_CACHE
    ),
    "fp8 (weight_scale_inv)": Case("fp8", "fp8_block", (*EVERY, NARROW)),
    "mxfp4 (gpt-oss)": Case("mxfp4", "mxfp4_experts_only", (GPT_OSS,)),
}
"""By name. In INT8, vLLM maps a token's largest magnitude on 127; so does the reference."""

"""What vLLM is asked to serve: by name, a dialect, a recipe, on which devices, and what a card computes instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CT, MODELOPT = "compressed-tensors", "modelopt"
CPU, CUDA = "cpu", "cuda"
TOKENS, PROMPTS = 96, 4
Recipe = str | dict[str, Any]

_EXCLUDED = {"include": "base_exclusions"}
_TOKENWISE = {"format": "int8_row", "mode": "dynamic"}
_FP8_ATTENTION = {"modules": ["*self_attn*"], "weight": "fp8", "input": {"format": "fp8", "mode": "static"}}
_MIXED: Recipe = {"include": ["nvfp4"], "rules": [_FP8_ATTENTION]}
_MIXED_WEIGHTS: Recipe = {"include": ["nvfp4_weight_only"], "rules": [_FP8_ATTENTION]}
_QUERIES: Recipe = {"include": ["fp8_kv_fp8"], "rules": [{"q": "fp8"}]}
_BLOCKS = "FP8 in blocks runs with inputs rounded in runs of 128, whatever the name says"
_NO_FP4 = "an sm_90 card has no FP4 product: weights alone"


@dataclass(frozen=True)
class Case:
    """One way to write a model.

    Attributes:
        dialect, recipe: how.
        instead: on a GPU of sm_90, the recipe whose model vLLM computes on purpose, where it is another one.
        why: why it does.
        devices: where it is served.
    """

    dialect: str
    recipe: Recipe
    instead: Recipe | None = None
    why: str = ""
    devices: tuple[str, ...] = (CPU, CUDA)


_GPU = (CUDA,)
CASES: Mapping[str, Case] = {
    "INT8": Case(CT, {"rules": [{"weight": "int8_row", "input": _TOKENWISE}, _EXCLUDED]}),
    "W4A16": Case(CT, {"rules": [{"weight": "int4_b32"}, _EXCLUDED]}),
    "AWQ": Case("awq", {"rules": [{"weight": "int4_b32_asym"}, _EXCLUDED]}),
    "GPTQ": Case("gptq", {"rules": [{"weight": "int4_b32"}, _EXCLUDED]}),
    "FP8 static": Case(CT, "fp8"),
    "FP8 dynamic": Case(CT, "fp8_row"),
    "NVFP4": Case(CT, "nvfp4", "nvfp4_weight_only", _NO_FP4),
    "NVFP4A16": Case(CT, "nvfp4_weight_only"),
    "NVFP4, attention FP8": Case(CT, _MIXED, _MIXED_WEIGHTS, _NO_FP4),
    "modelopt FP8": Case(MODELOPT, "fp8"),
    "modelopt FP8_PER_CHANNEL_PER_TOKEN": Case(MODELOPT, "fp8_row"),
    "modelopt NVFP4": Case(MODELOPT, "nvfp4", "nvfp4_weight_only", _NO_FP4),
    "modelopt W4A16_NVFP4": Case(MODELOPT, "nvfp4_weight_only"),
    "modelopt MIXED_PRECISION": Case(MODELOPT, _MIXED, _MIXED_WEIGHTS, _NO_FP4),
    "FP8, KV cache FP8": Case(CT, "fp8_kv_fp8", devices=_GPU),
    "FP8, KV cache FP8, cast": Case(CT, "fp8_kv_fp8_cast", devices=_GPU),
    "FP8, KV cache and queries FP8": Case(CT, _QUERIES, devices=_GPU),
    "modelopt FP8, KV cache FP8": Case(MODELOPT, "fp8_kv_fp8", devices=_GPU),
    "modelopt FP8, KV cache FP8, cast": Case(MODELOPT, "fp8_kv_fp8_cast", devices=_GPU),
    "modelopt FP8, KV cache and queries FP8": Case(MODELOPT, _QUERIES, devices=_GPU),
    "FP8 blocks": Case(CT, "fp8_block", devices=_GPU),
    "fp8 (DeepSeek's layout)": Case("fp8", "fp8_block", devices=_GPU),
    "modelopt FP8_PB_WO": Case(MODELOPT, "fp8_block_weight_only", "fp8_block", _BLOCKS, _GPU),
    "MXFP4A16": Case(CT, "mxfp4_weight_only", devices=_GPU),
    "MXFP8": Case(CT, "mxfp8", devices=_GPU),
}
"""By name. In INT8, vLLM maps a token's largest magnitude on 127; so does the reference."""


def cases_on(device: str) -> dict[str, Case]:
    """Those that are served on a device."""
    return {name: case for name, case in CASES.items() if device in case.devices}

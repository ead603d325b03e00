"""Recipes with formats that only checkpoints of this plugin know."""

from __future__ import annotations

from collections.abc import Iterator

from mtcore.recipe import RecipeSpec

_NVFP4_B32_FP8 = """summary: NVFP4 weights in blocks of 32 and FP8 activations (W4A8), as TensorRT-LLM runs it
rules:
  - weight: nvfp4_b32_fp8
    input: {format: fp8, mode: static}
  - include: base_exclusions
algorithm: max
targets: trtllm
"""


def hub_recipes() -> Iterator[RecipeSpec]:
    """Every recipe of this file."""
    summary = "NVFP4 weights in blocks of 32 and FP8 activations (W4A8), as TensorRT-LLM runs it"
    yield RecipeSpec("nvfp4_b32_fp8", summary, _NVFP4_B32_FP8)

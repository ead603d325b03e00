"""Recipes that the reload check knows besides those of the registry: mixtures, variants, pairs of formats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mtopt_hf.ct.spelling import SPELLINGS

ATTENTION, FEED_FORWARD = "*self_attn*", "*mlp*"
TOKENS = {"format": "int8_row", "mode": "dynamic"}
NVFP4 = {"weight": "nvfp4", "input": {"format": "nvfp4", "mode": "dynamic_blocks"}}


def _recipe(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"rules": [*rules, {"include": "base_exclusions"}], "algorithm": "max"}


RECIPES: dict[str, dict[str, Any]] = {
    "int4, blocks of 32": _recipe({"weight": "int4_b32"}),
    "int4, blocks of 64": _recipe({"weight": "int4_b64"}),
    "int4, blocks of 32, zero points": _recipe({"weight": "int4_b32_asym"}),
    "int4, a scale a row": _recipe({"weight": "int4_row"}),
    "int8, amax / 127 a token": _recipe({"weight": "int8_row", "input": TOKENS}),
    "int4 weights, INT8 tokens": _recipe({"weight": "int4_b128", "input": TOKENS}),
    "int4 attention alone": {**_recipe({"modules": [ATTENTION], "weight": "int4_b64"}), "max_unquantized": 1.0},
    "fp8 attention alone": {
        **_recipe({"modules": [ATTENTION], "weight": "fp8", "input": "fp8"}),
        "max_unquantized": 1.0,
    },
    "fp8 attention, nvfp4 feed-forward": _recipe(
        {"modules": [ATTENTION], "weight": "fp8", "input": "fp8"}, {"modules": [FEED_FORWARD], **NVFP4}
    ),
    "int8 attention, int4 feed-forward": _recipe(
        {"modules": [ATTENTION], "weight": "int8_row", "input": {"format": "int8", "mode": "static"}},
        {"modules": [FEED_FORWARD], "weight": "int4_b128"},
    ),
    "fp8_row attention, int4 feed-forward, KV FP8": _recipe(
        {"modules": [ATTENTION], "weight": "fp8_row", "input": {"format": "fp8_row", "mode": "dynamic"}},
        {"modules": [FEED_FORWARD], "weight": "int4_b128"},
        {"k": "fp8", "v": "fp8"},
    ),
}
"""By the name under which the table shows them."""


def _pairs() -> Iterator[tuple[str, dict[str, Any]]]:
    for weight in SPELLINGS:
        name = weight.format.name
        if weight.weight is not None and weight.layout_alone is not None:
            yield f"{name} x floats", _recipe({"weight": name})
        for given in SPELLINGS if weight.weight is not None else ():
            for mode in given.activation if given.family in weight.layout else ():
                with_input = {"weight": name, "input": {"format": given.format.name, "mode": mode}}
                yield f"{name} x {given.format.name} {mode}", _recipe(with_input)


PAIRS = dict(_pairs())
"""Every weight and input that compressed-tensors spells, by their names."""

"""The one table of DeepSeek's fp8 layout: formats of weight and input → block size.

Facts: transformers 5.23 (`integrations/finegrained_fp8.py`) and vLLM 0.32 (`quantization/fp8.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from mtcore.formats import TensorFormat
from mtcore.formats.catalog import FP8_RUN, FP8_TILE
from mtcore.recipe import Mode


@dataclass(frozen=True)
class Spelling:
    """One pair: a weight in tiles, and an input whose runs of as many columns are scaled at run time."""

    weight: TensorFormat
    input: TensorFormat
    mode: Mode


SPELLINGS = (Spelling(FP8_TILE, FP8_RUN, "dynamic"),)

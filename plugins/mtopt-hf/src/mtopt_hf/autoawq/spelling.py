"""The one table of AutoAWQ's layout: number format → group size.

Facts: AutoAWQ 0.2 (`modules/linear/gemm.py`, `utils/packing_utils.py`), read by vLLM, SGLang and GPTQModel.
"""

from __future__ import annotations

from dataclasses import dataclass

from mtcore.formats import TensorFormat
from mtcore.formats.catalog import BLOCK_SIZES, int_block, int_block_asym

BITS = 4
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight neighbouring outputs lies in which four bits of a word, from the lowest."""


@dataclass(frozen=True)
class Spelling:
    """A weight format whose input is not quantized."""

    weight: TensorFormat
    group_size: int


SPELLINGS = tuple(Spelling(make(BITS, size), size) for size in BLOCK_SIZES for make in (int_block_asym, int_block))

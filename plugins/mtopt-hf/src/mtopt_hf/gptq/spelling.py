"""The one table of GPTQ's layout: number format → bits, group size, and version of the zero points.

Facts: AutoGPTQ 0.7 and GPTQModel 7 (`nn_modules/qlinear/`), read by vLLM, SGLang and transformers with GPTQModel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mtcore.formats import TensorFormat
from mtcore.formats.catalog import BLOCK_SIZES, INT8_ROW, int_block, int_block_asym
from mtopt_hf.formats import int_row, int_row_asym

BITS = (2, 3, 4, 8)

Version = Literal["gptq", "gptq_v2"]
"""What `qzeros` holds: version 1 the code of zero minus one, version 2 the code itself.

Version 1 cannot say that zero is the code 0, so formats with a zero point are written as version 2.
"""


@dataclass(frozen=True)
class Spelling:
    """A weight format whose input is not quantized; `group_size` is -1 where a row has one scale."""

    weight: TensorFormat
    bits: int
    group_size: int
    version: Version

    @property
    def symmetric(self) -> bool:
        return self.weight.symmetric


def _spellings() -> Iterator[Spelling]:
    for bits in BITS:
        for size in BLOCK_SIZES:
            yield Spelling(int_block(bits, size), bits, size, "gptq")
            yield Spelling(int_block_asym(bits, size), bits, size, "gptq_v2")
        yield Spelling(INT8_ROW if bits == 8 else int_row(bits), bits, -1, "gptq")
        yield Spelling(int_row_asym(bits), bits, -1, "gptq_v2")


SPELLINGS = tuple(_spellings())

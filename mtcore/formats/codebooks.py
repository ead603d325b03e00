"""Code-book formats: NF4, whose sixteen values are quantiles of the normal distribution."""

from __future__ import annotations

from collections.abc import Iterator

from mtcore.formats.element import FP32, TableElement
from mtcore.formats.tensor import Block, Scale, TensorFormat

NF4_ELEMENT = TableElement(
    "nf4",
    (
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ),
)
"""The values published in appendix E of "QLoRA: Efficient Finetuning of Quantized LLMs" (arXiv 2305.14314)."""

NF4 = TensorFormat(
    "nf4",
    NF4_ELEMENT,
    (Scale(FP32, Block(1, 64)),),
    summary="4-bit normal floats, a scale for 64 elements",
)


def codebook_formats() -> Iterator[TensorFormat]:
    """Every code-book format of the catalog."""
    yield NF4

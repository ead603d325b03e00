"""Integer formats: INT8 for weights and activations, INT2 to INT8 in blocks for weights, INT4 on the way to FP8."""

from __future__ import annotations

from collections.abc import Iterator

from mtcore.formats.element import E4M3, FP32, INT8, IntElement
from mtcore.formats.tensor import PER_ROW, PER_TENSOR, Block, Scale, TensorFormat

INT8_TENSOR = TensorFormat(
    "int8",
    IntElement(8),
    (Scale(FP32, PER_TENSOR),),
    summary="8-bit integers, one scale a tensor, amax / 127, codes down to -128",
)
"""For activations: a static scale leaves values beyond its amax, and what serves them (vLLM, TensorRT) saturates at
-128. Weights have rows, whose codes keep to -127, for kernels that want a symmetric range."""
INT8_ROW = TensorFormat(
    "int8_row",
    INT8,
    (Scale(FP32, PER_ROW),),
    aliases=("int8_channel", "int8_token"),
    summary="8-bit integers, one scale an output channel (weights) or token (activations)",
)
INT8_ROW_FULL = TensorFormat(
    "int8_row_full",
    IntElement(8),
    (Scale(FP32, PER_ROW),),
    amax_to=127.5,
    summary="int8_row with amax / 127.5 and codes down to -128, the convention of compressed-tensors",
)

WEIGHT_BITS = range(2, 9)
BLOCK_SIZES = (32, 64, 128)


def int_block(bits: int, size: int, *, aliases: tuple[str, ...] = ()) -> TensorFormat:
    """Symmetric integers of `bits` bits: `size` elements along a row share amax / (2^(bits-1) - 1)."""
    return TensorFormat(
        f"int{bits}_b{size}",
        IntElement(bits),
        (Scale(FP32, Block(1, size)),),
        aliases=aliases,
        summary=f"{bits}-bit integers, a scale for {size} elements",
    )


def int_block_full(bits: int, size: int) -> TensorFormat:
    """The same over the whole code range: amax / (2^(bits-1) - 1/2), the convention of compressed-tensors."""
    return TensorFormat(
        f"int{bits}_b{size}_full",
        IntElement(bits),
        (Scale(FP32, Block(1, size)),),
        amax_to=2.0 ** (bits - 1) - 0.5,
        summary=f"int{bits}_b{size} with amax / {2.0 ** (bits - 1) - 0.5:g}, the convention of compressed-tensors",
    )


def int_block_asym(bits: int, size: int) -> TensorFormat:
    """Unsigned integers of `bits` bits with a zero point: `size` elements share (max - min) / (2^bits - 1)."""
    return TensorFormat(
        f"int{bits}_b{size}_asym",
        IntElement(bits, signed=False),
        (Scale(FP32, Block(1, size)),),
        zero_point=IntElement(bits, signed=False),
        summary=f"{bits}-bit integers with a zero point, a scale for {size} elements",
    )


INT4_B128 = int_block(4, 128, aliases=("int4",))
INT4_B128_FP8 = TensorFormat(
    "int4_b128_fp8",
    IntElement(4),
    (Scale(FP32, Block(1, 128)), Scale(FP32, PER_TENSOR)),
    aliases=("w4a8_awq",),
    summary="int4_b128 whose values are rounded once more to FP8 E4M3, one scale a tensor (W4A8-AWQ weights)",
    via=E4M3,
)


def integer_formats() -> Iterator[TensorFormat]:
    """Every integer format of the catalog."""
    yield from (INT8_TENSOR, INT8_ROW, INT8_ROW_FULL)
    for bits in WEIGHT_BITS:
        for size in BLOCK_SIZES:
            yield INT4_B128 if (bits, size) == (4, 128) else int_block(bits, size)
            yield int_block_asym(bits, size)
            if bits == 4:
                yield int_block_full(bits, size)
    yield INT4_B128_FP8

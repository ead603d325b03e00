"""NVFP4 weights times 16-bit activations, on tensor cores that know no 4-bit floats.

The weight is the left operand, in registers: a program decodes its words where the product needs them and never
writes a decoded weight anywhere. How the words are laid out for that is said at `mtopt_kernels.prepack`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.element import INTERPRETED, from_bits
from mtopt_kernels.kernels.split import last_of, sum_of_parts, write_tile

LIFT = tl.constexpr(512.0)
"""What products lack: scales are decoded 2^-9 too small, so that the largest fits."""


def _decoder() -> str:
    """PTX for two neighbouring words: eight pairs of bf16, each two codes times their scale.

    $0…$7: the results, of code 0…7. $8, $9: the words. $10, $12: the scale bytes of codes 0…3 and 4…7; $11, $13 are
    the same registers. A code s|eem becomes the bf16 s|000000ee|m000000, which is its value times 2^-126; three of
    the four codes of a half word need one shift and one mask for that, or less. A scale byte eeeeemmm becomes
    0|(eeeee + 229)|mmm0000, which is its value times 2^117. The product of the two is exact: six significant bits.
    """
    lines = [
        ".reg .b32 a, b, t, u, s;",
        "prmt.b32 a, $8, $9, 0x5410;",  # the low halves of both words
        "prmt.b32 b, $8, $9, 0x7632;",  # the high ones
    ]
    for code in range(8):
        half, place = "ab"[code // 4], code % 4
        scales, byte = ("$10", "$12")[code // 4], code % 4
        if place < 3:
            lines += [f"shl.b32 t, {half}, {3 * place};", "and.b32 t, t, 0x81C081C0;"]
        else:
            lines += [
                f"shr.b32 t, {half}, 4;",
                "and.b32 t, t, 0x00C000C0;",
                f"shr.b32 u, {half}, 5;",
                "lop3.b32 t, u, 0x01000100, t, 0xEA;",  # (u & mask) | t
                f"shl.b32 u, {half}, 1;",
                "lop3.b32 t, u, 0x80008000, t, 0xEA;",
            ]
        lines += [
            f"prmt.b32 s, {scales}, 0, 0x4{byte}4{byte};",
            "mad.lo.u32 s, s, 16, 0x72807280;",
            f"mul.rn.bf16x2 ${code}, t, s;",
        ]
    return "{ " + " ".join(lines) + " }"


DECODER = tl.constexpr(_decoder())
CONSTRAINTS = tl.constexpr(",".join(["=r"] * 8 + ["r"] * 6))


@triton.jit
def decode_word(words, low_scales, high_scales):
    """Eight bf16 tensors [HIGH, 16] of decoded weights, each 2^-9 too small, from words [HIGH, 16]."""
    return tl.inline_asm_elementwise(
        DECODER,
        CONSTRAINTS,
        [words, low_scales, high_scales],
        dtype=(tl.bfloat16,) * 8,
        is_pure=True,
        pack=2,
    )


@triton.jit
def decode_slowly(words, scales, CODE: tl.constexpr, BYTE: tl.constexpr):
    """One of `decode_word`'s tensors in fp32, by operations that the interpreter knows."""
    half = words >> (16 * (CODE // 4))
    if CODE % 4 == 3:
        magnitude = ((half >> 4) & 0x00C0) | ((half >> 5) & 0x0100)
        sign = (half << 1) & 0x8000
    else:
        magnitude = (half << (3 * (CODE % 4))) & 0x01C0
        sign = (half << (3 * (CODE % 4))) & 0x8000
    value = from_bits((magnitude << 16) | (sign << 16)) * 2.0**126
    byte = (scales >> (8 * BYTE)) & 255
    return value * from_bits((byte << 20) + (103 << 23))


@triton.jit
def nvfp4_linear_kernel(
    x_ptr,
    words_ptr,
    scales_ptr,
    scale_2_ptr,
    bias_ptr,
    out_ptr,
    partial_ptr,
    count_ptr,
    tokens,
    features,
    chunks,
    x_stride,
    feature_tiles,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
    SPLIT: tl.constexpr,
    SHARE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """out [tokens, features] = x [tokens, 128 · chunks] times the weight, by tiles of HIGH features x WIDE tokens.

    Each of SPLIT programs takes SHARE chunks of a tile.
    """
    pid = tl.program_id(0)
    part = pid % SPLIT
    tile = pid // SPLIT
    feature = (tile % feature_tiles) * HIGH + tl.arange(0, HIGH)
    token = (tile // feature_tiles) * WIDE + tl.arange(0, WIDE)
    column = tl.arange(0, 16)
    there, here = feature < features, token < tokens
    x_ptrs = x_ptr + token.to(tl.int64)[None, :] * x_stride + column[:, None]
    acc = tl.zeros((HIGH, WIDE), tl.float32)
    for step in tl.range(SHARE, num_stages=STAGES):
        chunk = part * SHARE + step
        row = chunk * features + feature
        alive = there & (chunk < chunks)
        words = tl.load(words_ptr + row[:, None] * 16 + column[None, :], mask=alive[:, None], other=0)
        low = tl.load(scales_ptr + row * 2, mask=alive, other=0)
        high = tl.load(scales_ptr + row * 2 + 1, mask=alive, other=0)
        if INTERPRETED:
            for code in tl.static_range(8):
                scales = low if code < 4 else high
                weight = decode_slowly(words, scales[:, None], code, code % 4)
                x = tl.load(x_ptrs + chunk * 128 + code * 16, mask=here[None, :] & (chunk < chunks), other=0.0)
                acc = tl.dot(weight, x.to(tl.float32), acc)
        else:
            decoded = decode_word(words, low[:, None], high[:, None])
            for code in tl.static_range(8):
                x = tl.load(x_ptrs + chunk * 128 + code * 16, mask=here[None, :] & (chunk < chunks), other=0.0)
                acc = tl.dot(decoded[code], x, acc)
    times = tl.load(scale_2_ptr) * LIFT
    if SPLIT == 1:
        write_tile(acc * times, out_ptr, bias_ptr, feature, token, features, tokens, HAS_BIAS)
    else:
        if last_of(acc, partial_ptr, count_ptr, tile, part, SPLIT, HIGH, WIDE):
            total = sum_of_parts(partial_ptr, count_ptr, tile, SPLIT, HIGH, WIDE)
            write_tile(total * times, out_ptr, bias_ptr, feature, token, features, tokens, HAS_BIAS)


@triton.jit
def nvfp4_unpack_kernel(words_ptr, scales_ptr, scale_2_ptr, out_ptr, features, chunks, HIGH: tl.constexpr):
    """The weight [features, 128 · chunks] that words stand for, each value rounded once."""
    pid = tl.program_id(0)
    chunk = pid % chunks
    feature = (pid // chunks) * HIGH + tl.arange(0, HIGH)
    column = tl.arange(0, 16)
    there = feature < features
    row = chunk * features + feature
    words = tl.load(words_ptr + row[:, None] * 16 + column[None, :], mask=there[:, None], other=0)
    low = tl.load(scales_ptr + row * 2, mask=there, other=0)
    high = tl.load(scales_ptr + row * 2 + 1, mask=there, other=0)
    times = tl.load(scale_2_ptr) * LIFT
    places = feature.to(tl.int64)[:, None] * (chunks * 128) + chunk * 128 + column[None, :]
    if INTERPRETED:
        for code in tl.static_range(8):
            scales = low if code < 4 else high
            value = decode_slowly(words, scales[:, None], code, code % 4) * times
            tl.store(out_ptr + places + code * 16, value.to(out_ptr.dtype.element_ty), mask=there[:, None])
    else:
        decoded = decode_word(words, low[:, None], high[:, None])
        for code in tl.static_range(8):
            value = decoded[code].to(tl.float32) * times
            tl.store(out_ptr + places + code * 16, value.to(out_ptr.dtype.element_ty), mask=there[:, None])

"""Weights in NVFP4 or INT4 times 16-bit activations, on tensor cores that know no such numbers.

The weight is the left operand, in registers: a thread reads the words of what it multiplies and decodes them there.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from mtopt_kernels.device.element import INTERPRETED
from mtopt_kernels.device.int4 import decode_int4_tile
from mtopt_kernels.device.mask import where_both
from mtopt_kernels.device.nvfp4 import decode_nvfp4_tile, lift_of
from mtopt_kernels.kernels.several import one_of, whose_tile
from mtopt_kernels.kernels.split import bias_of, last_of, sum_of_parts, write_tile


@triton.jit
def word_places(first_tile, TILES: tl.constexpr):
    """Offsets of the words [TILES, 8, 4, 4] and scale words [TILES, 8, 4] of tiles within a chunk."""
    tile = (first_tile + tl.arange(0, TILES))[:, None, None]
    g, within = tl.arange(0, 8)[None, :, None], tl.arange(0, 4)[None, None, :]
    scale = tile * 32 + g * 4 + within
    word = (tile * 256 + g * 16)[:, :, :, None] + tl.arange(0, 4)[None, None, :, None] * 4 + within[:, :, None, :]
    return word, scale


@triton.jit
def four_bit_linear_kernel(
    x_ptr,
    words_0_ptr,
    words_1_ptr,
    words_2_ptr,
    words_3_ptr,
    scales_0_ptr,
    scales_1_ptr,
    scales_2_ptr,
    scales_3_ptr,
    outer_0_ptr,
    outer_1_ptr,
    outer_2_ptr,
    outer_3_ptr,
    bias_0_ptr,
    bias_1_ptr,
    bias_2_ptr,
    bias_3_ptr,
    out_0_ptr,
    out_1_ptr,
    out_2_ptr,
    out_3_ptr,
    features_0,
    features_1,
    features_2,
    features_3,
    second,
    third,
    fourth,
    partial_ptr,
    count_ptr,
    tokens,
    chunks,
    x_stride,
    feature_tiles,
    share,
    WEIGHTS: tl.constexpr,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
    SPLIT: tl.constexpr,
    INT: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    STEP: tl.constexpr,
    STAGES: tl.constexpr,
    EARLY: tl.constexpr,
):
    """out [tokens, features] = x [tokens, 128 · chunks] times the weight, by tiles of HIGH features x WIDE tokens.

    That for each of WEIGHTS weights: of `feature_tiles`, those from `second` on are the second one's, and so on.
    They are INT, INT4 with one fp32 scale for 128 columns, which multiplies their sum, or else NVFP4. Each of SPLIT
    programs takes `share` steps of STEP chunks of a tile.
    """
    TILES: tl.constexpr = HIGH // 16
    HALF: tl.constexpr = x_ptr.dtype.element_ty == tl.float16
    pid = tl.program_id(0)
    part = pid % SPLIT
    tile = pid // SPLIT
    which, first = whose_tile(tile % feature_tiles, second, third, fourth, WEIGHTS)
    words_ptr = one_of(which, words_0_ptr, words_1_ptr, words_2_ptr, words_3_ptr, WEIGHTS)
    scales_ptr = one_of(which, scales_0_ptr, scales_1_ptr, scales_2_ptr, scales_3_ptr, WEIGHTS)
    out_ptr = one_of(which, out_0_ptr, out_1_ptr, out_2_ptr, out_3_ptr, WEIGHTS)
    features = one_of(which, features_0, features_1, features_2, features_3, WEIGHTS)
    row_tiles = tl.cdiv(features, 16)
    token = (tile // feature_tiles) * WIDE + tl.arange(0, WIDE)
    here = token < tokens
    there = (first * TILES + tl.arange(0, TILES) < row_tiles)[:, None, None]
    word, scale = word_places(first * TILES, TILES)
    words_ptr += word
    scale_row = first * HIGH + tl.arange(0, HIGH)
    x_ptrs = x_ptr + token.to(tl.int64)[None, :] * x_stride + tl.arange(0, 128)[:, None]
    acc = tl.zeros((HIGH, WIDE), tl.float32)
    if EARLY and not INTERPRETED:
        gdc_wait()
        gdc_launch_dependents()
    if not INT:  # asked for now, so that nothing waits for it at the end
        outer_ptr = one_of(which, outer_0_ptr, outer_1_ptr, outer_2_ptr, outer_3_ptr, WEIGHTS)
        outer = tl.load(outer_ptr) * lift_of(HALF)
    for turn in tl.range(0, share, num_stages=STAGES):
        for more in tl.static_range(STEP):
            chunk = (part * share + turn) * STEP + more
            alive = where_both(there, chunk < chunks)
            row = chunk * row_tiles
            upper = tl.load(words_ptr + row * 256, mask=alive[:, :, :, None], other=0)
            lower = tl.load(words_ptr + row * 256 + 128, mask=alive[:, :, :, None], other=0)
            x = tl.load(x_ptrs + chunk * 128, mask=where_both(here[None, :], chunk < chunks), other=0.0)
            if INTERPRETED:
                x = x.to(tl.float32)
            if INT:
                in_chunk = where_both(scale_row < row_tiles * 16, chunk < chunks)
                scales = tl.load(scales_ptr + row * 16 + scale_row, mask=in_chunk, other=0.0)
                acc += tl.dot(decode_int4_tile(upper, lower, TILES, HALF), x) * scales[:, None]
            else:
                scales = tl.load(scales_ptr + scale + row * 32, mask=alive, other=0)
                acc = tl.dot(decode_nvfp4_tile(upper, lower, scales, TILES, HALF), x, acc)
    feature = first * HIGH + tl.arange(0, HIGH)
    writes = True
    if SPLIT > 1:
        writes = last_of(acc, partial_ptr, count_ptr, tile, part, SPLIT, HIGH, WIDE)
        if writes:
            acc = sum_of_parts(partial_ptr, count_ptr, tile, SPLIT, HIGH, WIDE)
    if writes:
        if not INT:
            acc *= outer
        if HAS_BIAS:
            bias_ptr = one_of(which, bias_0_ptr, bias_1_ptr, bias_2_ptr, bias_3_ptr, WEIGHTS)
            acc += bias_of(bias_ptr, feature, features)
        write_tile(acc, out_ptr, feature, token, features, tokens)


@triton.jit
def four_bit_unpack_kernel(
    words_ptr, scales_ptr, scale_2_ptr, out_ptr, features, chunks, row_tiles, INT: tl.constexpr, TILES: tl.constexpr
):
    """The weight [features, 128 · chunks] that words stand for, each value rounded once; of NVFP4 without an outer
    scale, codes times their block scales."""
    pid = tl.program_id(0)
    chunk = pid % chunks
    first = (pid // chunks) * TILES
    there = (first + tl.arange(0, TILES) < row_tiles)[:, None, None]
    word, scale = word_places(first, TILES)
    row = chunk * row_tiles
    feature = first * 16 + tl.arange(0, TILES * 16)
    upper = tl.load(words_ptr + row * 256 + word, mask=there[:, :, :, None], other=0)
    lower = tl.load(words_ptr + row * 256 + 128 + word, mask=there[:, :, :, None], other=0)
    if INT:
        scales = tl.load(scales_ptr + row * 16 + feature, mask=feature < row_tiles * 16, other=0.0)
        value = decode_int4_tile(upper, lower, TILES, False).to(tl.float32) * scales[:, None]
    else:
        scales = tl.load(scales_ptr + row * 32 + scale, mask=there, other=0)
        value = decode_nvfp4_tile(upper, lower, scales, TILES, False).to(tl.float32)
        value *= lift_of(False) if scale_2_ptr is None else tl.load(scale_2_ptr) * lift_of(False)
    places = feature.to(tl.int64)[:, None] * (chunks * 128) + chunk * 128 + tl.arange(0, 128)[None, :]
    tl.store(out_ptr + places, value.to(out_ptr.dtype.element_ty), mask=(feature < features)[:, None])

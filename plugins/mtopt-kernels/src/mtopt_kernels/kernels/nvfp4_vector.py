"""Weights in NVFP4 times one token in bf16: what decoding does most, bound by reading the weight.

Warps share the columns of 16 features, in chunks of 128, and add up when all are done; how they multiply is said at
`mtopt_kernels.device.nvfp4_vector`.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from mtopt_kernels.device.element import INTERPRETED
from mtopt_kernels.device.nvfp4_vector import REST, chunk_sums, columns_of
from mtopt_kernels.kernels.several import one_of, whose_tile


@triton.jit
def nvfp4_vector_kernel(
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
    chunks,
    turns,
    WEIGHTS: tl.constexpr,
    WARPS: tl.constexpr,
    EACH: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """out [features] = the weight times x [128 · chunks], for each of WEIGHTS weights; a program has 16 features.

    Of the programs, those from `second` on are the second weight's, and so on. In each of `turns` turns each of
    WARPS warps takes EACH chunks, and reads those of the next turn before.
    """
    which, tile = whose_tile(tl.program_id(0), second, third, fourth, WEIGHTS)
    words_ptr = one_of(which, words_0_ptr, words_1_ptr, words_2_ptr, words_3_ptr, WEIGHTS)
    scales_ptr = one_of(which, scales_0_ptr, scales_1_ptr, scales_2_ptr, scales_3_ptr, WEIGHTS)
    out_ptr = one_of(which, out_0_ptr, out_1_ptr, out_2_ptr, out_3_ptr, WEIGHTS)
    features = one_of(which, features_0, features_1, features_2, features_3, WEIGHTS)
    warp, row = tl.arange(0, WARPS)[:, None], tl.arange(0, 2 * WARPS)[:, None]
    lane, row_tiles = tl.arange(0, 32)[None, :], tl.cdiv(features, 16)
    pairs_ptr = x_ptr.to(tl.pointer_type(tl.int32)) + warp * 64 + (lane // 4) * 8 + lane % 4
    words_ptr += ((row % WARPS) * row_tiles + tile) * 256 + (row // WARPS) * 128 + tl.arange(0, 128)[None, :]
    scales_ptr += (warp * row_tiles + tile) * 32 + lane
    if EARLY and not INTERPRETED:
        gdc_wait()
        gdc_launch_dependents()
    outer = tl.load(one_of(which, outer_0_ptr, outer_1_ptr, outer_2_ptr, outer_3_ptr, WEIGHTS)) * REST
    zero = tl.zeros((WARPS, 32), tl.float32)
    sums = (zero, zero, zero, zero)
    ahead = parts_of(pairs_ptr, words_ptr, scales_ptr, 0, row_tiles, chunks, WARPS, EACH)
    for turn in tl.range(1, turns + 1, num_stages=1):
        now = ahead
        ahead = parts_of(pairs_ptr, words_ptr, scales_ptr, turn, row_tiles, chunks, WARPS, EACH)
        for each in tl.static_range(EACH):
            columns = columns_of(now[4 * each], now[4 * each + 1])
            sums = chunk_sums(now[4 * each + 2], now[4 * each + 3], columns, lane, sums)
    for lower in tl.static_range(2):
        rows = rows_of(sums[2 * lower] + sums[2 * lower + 1]) * outer
        feature = tile * 16 + lower * 8 + tl.arange(0, 8)
        if HAS_BIAS:
            bias_ptr = one_of(which, bias_0_ptr, bias_1_ptr, bias_2_ptr, bias_3_ptr, WEIGHTS)
            rows += tl.load(bias_ptr + feature, mask=feature < features, other=0.0).to(tl.float32)
        tl.store(out_ptr + feature, rows.to(out_ptr.dtype.element_ty), mask=feature < features)


@triton.jit
def parts_of(pairs_ptr, words_ptr, scales_ptr, turn, row_tiles, chunks, WARPS: tl.constexpr, EACH: tl.constexpr):
    """What a turn reads of each of its chunks: two pairs of x, words and scales. See `columns_of`, `chunk_sums`.

    The pointers are those of the first chunk of each warp.
    """
    warp, row = tl.arange(0, WARPS)[:, None], tl.arange(0, 2 * WARPS)[:, None]
    read = ()
    for each in tl.static_range(EACH):
        chunk = (turn * EACH + each) * WARPS  # of the first warp
        there, row_there = chunk + warp < chunks, chunk + row % WARPS < chunks
        words, scales = words_ptr + chunk * row_tiles * 256, scales_ptr + chunk * row_tiles * 32
        read += (
            tl.load(pairs_ptr + chunk * 64, mask=there, other=0),
            tl.load(pairs_ptr + chunk * 64 + 4, mask=there, other=0),
            tl.load(words, mask=row_there, other=0, eviction_policy="evict_first"),
            tl.load(scales, mask=there, other=0, eviction_policy="evict_first"),
        )
    return read


@triton.jit
def rows_of(sums):
    """What all warps and the four threads of a row have in sum, of [warps, 32] for [8] rows."""
    return tl.sum(tl.sum(tl.reshape(sums, (sums.shape[0], 8, 4)), axis=2), axis=0)

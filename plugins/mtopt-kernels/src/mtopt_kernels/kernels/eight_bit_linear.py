"""Weights times activations, both in 8 bits, for few tokens: a product that is bound by reading the weight."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from mtopt_kernels.device.element import INTERPRETED, widened
from mtopt_kernels.device.mask import where_both
from mtopt_kernels.device.scale import stored_scale
from mtopt_kernels.kernels.several import one_of, whose_tile
from mtopt_kernels.kernels.split import bias_of, last_of, sum_of_parts, write_tile


@triton.jit
def scale_of(ptr, place, count, EACH: tl.constexpr, GIVEN: tl.constexpr):
    """The scales at some places, fp32, or the one that serves all; where a format's constants are GIVEN, that of a
    calibrated magnitude."""
    if EACH:
        return tl.load(ptr + place, mask=place < count, other=0.0)
    elif GIVEN is not None:
        amax = widened(tl.load(ptr))
        return stored_scale(tl.where(amax < 0.0, 0.0, amax), 1.0, GIVEN)
    else:
        return tl.load(ptr)


@triton.jit
def eight_bit_linear_kernel(
    x_ptr,
    x_scale_ptr,
    weight_0_ptr,
    weight_1_ptr,
    weight_2_ptr,
    weight_3_ptr,
    scale_0_ptr,
    scale_1_ptr,
    scale_2_ptr,
    scale_3_ptr,
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
    inner,
    feature_tiles,
    share,
    WEIGHTS: tl.constexpr,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
    DEEP: tl.constexpr,
    SPLIT: tl.constexpr,
    INT: tl.constexpr,
    BY_TOKEN: tl.constexpr,
    BY_FEATURE: tl.constexpr,
    BY_BLOCK: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    GIVEN: tl.constexpr,
    STAGES: tl.constexpr,
    EARLY: tl.constexpr,
):
    """out [tokens, features] = x [tokens, inner] · weight [features, inner]ᵀ, contiguous: INT, int8, or else e4m3.

    That for each of WEIGHTS weights: of `feature_tiles`, those from `second` on are the second one's, and so on.

    The weight is the left operand, so that few tokens fill the narrow side of the tensor cores' tiles. Products are
    exact and added up by the tensor cores, in int32 or fp32. With scales BY_BLOCK of 1x128 and 128x128, they add up
    128 columns, DEEP, and fp32 the rest; HIGH divides 128. Each of SPLIT programs takes `share` steps of DEEP
    columns. GIVEN: None, or the constants of x's format, and x_scale is the calibrated magnitude of that tensor.
    """
    pid = tl.program_id(0)
    part = pid % SPLIT
    tile = pid // SPLIT
    which, first = whose_tile(tile % feature_tiles, second, third, fourth, WEIGHTS)
    weight_ptr = one_of(which, weight_0_ptr, weight_1_ptr, weight_2_ptr, weight_3_ptr, WEIGHTS)
    scale_ptr = one_of(which, scale_0_ptr, scale_1_ptr, scale_2_ptr, scale_3_ptr, WEIGHTS)
    out_ptr = one_of(which, out_0_ptr, out_1_ptr, out_2_ptr, out_3_ptr, WEIGHTS)
    features = one_of(which, features_0, features_1, features_2, features_3, WEIGHTS)
    feature = first * HIGH + tl.arange(0, HIGH)
    token = (tile // feature_tiles) * WIDE + tl.arange(0, WIDE)
    there, here = feature < features, token < tokens
    column = tl.arange(0, DEEP)
    w_ptrs = weight_ptr + feature.to(tl.int64)[:, None] * inner + column[None, :]
    x_ptrs = x_ptr + token.to(tl.int64)[None, :] * inner + column[:, None]
    acc = tl.zeros((HIGH, WIDE), tl.int32 if INT else tl.float32)
    if EARLY and not INTERPRETED:
        gdc_wait()
        gdc_launch_dependents()
    if not BY_BLOCK:  # asked for now, so that nothing waits for them at the end
        by_feature = scale_of(scale_ptr, feature[:, None], features, BY_FEATURE, None)
        by_token = scale_of(x_scale_ptr, token[None, :], tokens, BY_TOKEN, GIVEN)
    for turn in tl.range(0, share, num_stages=STAGES):
        step = part * share + turn
        inside = step * DEEP + column < inner
        weight = tl.load(w_ptrs + step * DEEP, mask=there[:, None] & inside[None, :], other=0.0)
        x = tl.load(x_ptrs + step * DEEP, mask=inside[:, None] & here[None, :], other=0.0)
        if INTERPRETED and not INT:  # it multiplies no floats of a byte
            weight, x = weight.to(tl.float32), x.to(tl.float32)
        if BY_BLOCK:
            steps = tl.cdiv(inner, DEEP)
            of_token = tl.load(x_scale_ptr + token * steps + step, mask=where_both(here, step < steps), other=0.0)
            block = (first * HIGH // 128) * steps + step
            by_both = of_token * tl.load(scale_ptr + block, mask=step < steps, other=0.0)
            acc += tl.dot(weight, x) * by_both[None, :]
        else:
            acc = tl.dot(weight, x, acc, out_dtype=tl.int32 if INT else tl.float32)
    acc = acc.to(tl.float32)
    writes = True
    if SPLIT > 1:
        writes = last_of(acc, partial_ptr, count_ptr, tile, part, SPLIT, HIGH, WIDE)
        if writes:
            acc = sum_of_parts(partial_ptr, count_ptr, tile, SPLIT, HIGH, WIDE)
    if writes:
        if not BY_BLOCK:
            acc = acc * by_feature * by_token
        if HAS_BIAS:
            bias_ptr = one_of(which, bias_0_ptr, bias_1_ptr, bias_2_ptr, bias_3_ptr, WEIGHTS)
            acc += bias_of(bias_ptr, feature, features)
        write_tile(acc, out_ptr, feature, token, features, tokens)

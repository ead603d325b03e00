"""Activations times weights, both in 8 bits, for many tokens: a product that is bound by the tensor cores."""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.element import INTERPRETED


@triton.jit
def tile_of(number, token_tiles, feature_tiles, GROUP: tl.constexpr):
    """Which tile has this number: GROUP rows of tiles are walked together, column by column, so that what runs at a
    time shares few rows and columns."""
    group = number // (GROUP * feature_tiles)
    first = group * GROUP
    high = tl.minimum(token_tiles - first, GROUP)
    within = number - group * (GROUP * feature_tiles)
    return first + within % high, within // high


@triton.jit
def one_tile(
    number,
    x,
    weight,
    out,
    x_scale_ptr,
    scale_ptr,
    bias_ptr,
    tokens,
    features,
    steps,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
    DEEP: tl.constexpr,
    GROUP: tl.constexpr,
    INT: tl.constexpr,
    BY_TOKEN: tl.constexpr,
    BY_FEATURE: tl.constexpr,
    BY_BLOCK: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    PARTS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """What `eight_bit_gemm_kernel` does for the tile of this number."""
    token_tile, feature_tile = tile_of(number, tl.cdiv(tokens, HIGH), tl.cdiv(features, WIDE), GROUP)
    first_token, first_feature = token_tile * HIGH, feature_tile * WIDE
    token = first_token + tl.arange(0, HIGH)
    acc = tl.zeros((HIGH, WIDE), tl.int32 if INT else tl.float32)
    for step in tl.range(0, steps, num_stages=STAGES):
        a = x.load([first_token, step * DEEP])
        b = weight.load([first_feature, step * DEEP])
        if INTERPRETED and not INT:  # it multiplies no floats of a byte
            a, b = a.to(tl.float32), b.to(tl.float32)
        if BY_BLOCK:
            by_token = tl.load(x_scale_ptr + token * steps + step, mask=token < tokens, other=0.0)
            times = by_token * tl.load(scale_ptr + (first_feature // 128) * steps + step)
            acc += tl.dot(a, b.T) * times[:, None]
        else:
            acc = tl.dot(a, b.T, acc, out_dtype=tl.int32 if INT else tl.float32)
    acc = acc.to(tl.float32)
    feature = first_feature + tl.arange(0, WIDE)
    if not BY_BLOCK:
        if BY_FEATURE:
            acc *= tl.load(scale_ptr + feature, mask=feature < features, other=0.0)[None, :]
        else:
            acc *= tl.load(scale_ptr)
        if BY_TOKEN:
            acc *= tl.load(x_scale_ptr + token, mask=token < tokens, other=0.0)[:, None]
        else:
            acc *= tl.load(x_scale_ptr)
    if HAS_BIAS:
        acc += tl.load(bias_ptr + feature, mask=feature < features, other=0.0).to(tl.float32)[None, :]
    if PARTS == 1:
        out.store([first_token, first_feature], acc.to(out.dtype))
    else:
        left, right = tl.split(tl.permute(tl.reshape(acc, (HIGH, 2, WIDE // 2)), (0, 2, 1)))
        out.store([first_token, first_feature], left.to(out.dtype))
        out.store([first_token, first_feature + WIDE // 2], right.to(out.dtype))


@triton.jit
def eight_bit_gemm_kernel(
    x,
    weight,
    out,
    x_scale_ptr,
    scale_ptr,
    bias_ptr,
    tokens,
    features,
    steps,
    programs,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
    DEEP: tl.constexpr,
    GROUP: tl.constexpr,
    INT: tl.constexpr,
    BY_TOKEN: tl.constexpr,
    BY_FEATURE: tl.constexpr,
    BY_BLOCK: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    PARTS: tl.constexpr,
    STAGES: tl.constexpr,
    FLATTEN: tl.constexpr,
):
    """out [tokens, features] = x [tokens, inner] · weight [features, inner]ᵀ, in tiles of HIGH x WIDE.

    x and weight are INT, int8, or else e4m3. They and out are tensor descriptors, which the copy engine reads and
    writes; inner is `steps` steps of DEEP columns. Every program computes several tiles. Tensor cores add up; with
    scales BY_BLOCK of 1x128 and 128x128 (WIDE and DEEP are 128 at most), over DEEP columns, and fp32 the rest. A
    tile is written in PARTS parts, so that its copy in shared memory is small.
    """
    tiles = tl.cdiv(tokens, HIGH) * tl.cdiv(features, WIDE)
    for number in tl.range(tl.program_id(0), tiles, programs, flatten=FLATTEN):
        one_tile(
            number, x, weight, out, x_scale_ptr, scale_ptr, bias_ptr, tokens, features, steps, HIGH, WIDE, DEEP,
            GROUP, INT, BY_TOKEN, BY_FEATURE, BY_BLOCK, HAS_BIAS, PARTS, STAGES,
        )  # fmt: skip

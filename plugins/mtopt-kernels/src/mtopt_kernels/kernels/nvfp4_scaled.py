"""NVFP4 weights times NVFP4 activations, on tensor cores that know both (sm_100)."""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.element import INTERPRETED, decode_float


@triton.jit
def decoded(codes, scales, ROWS: tl.constexpr, DEEP: tl.constexpr):
    """fp32 [ROWS, DEEP] from two codes a byte and the bytes of e4m3 scales of 16 columns; for the interpreter."""
    codes = codes.to(tl.int32)
    values = tl.reshape(tl.join(codes & 15, codes >> 4), (ROWS, DEEP // 16, 16))
    scale = decode_float(scales.to(tl.int32), 8, 3, 2.0**120)
    return tl.reshape(decode_float(values, 4, 1, 2.0**126) * scale[:, :, None], (ROWS, DEEP))


@triton.jit
def nvfp4_scaled_kernel(
    x_ptr,
    x_scale_ptr,
    x_scale_2_ptr,
    weight_ptr,
    scale_ptr,
    scale_2_ptr,
    bias_ptr,
    out_ptr,
    tokens,
    features,
    inner,
    feature_tiles,
    steps,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
    DEEP: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """out [tokens, features] = x [tokens, inner] · weight [features, inner]ᵀ, in tiles of HIGH x WIDE.

    Both factors as `QTensor` holds them; inner is a multiple of 16. Products of codes and scales are exact, and are
    added up in fp32; the outer scales come last.
    """
    pid = tl.program_id(0)
    token = (pid // feature_tiles) * HIGH + tl.arange(0, HIGH)
    feature = (pid % feature_tiles) * WIDE + tl.arange(0, WIDE)
    here, there = token < tokens, feature < features
    pair, block = tl.arange(0, DEEP // 2), tl.arange(0, DEEP // 16)
    x_ptrs = x_ptr + token.to(tl.int64)[:, None] * (inner // 2) + pair[None, :]
    w_ptrs = weight_ptr + feature.to(tl.int64)[:, None] * (inner // 2) + pair[None, :]
    x_scale_ptrs = x_scale_ptr + token.to(tl.int64)[:, None] * (inner // 16) + block[None, :]
    w_scale_ptrs = scale_ptr + feature.to(tl.int64)[:, None] * (inner // 16) + block[None, :]
    acc = tl.zeros((HIGH, WIDE), tl.float32)
    for step in tl.range(0, steps, num_stages=STAGES):
        inside = (step * (DEEP // 2) + pair < inner // 2)[None, :]
        scaled = (step * (DEEP // 16) + block < inner // 16)[None, :]
        x = tl.load(x_ptrs + step * (DEEP // 2), mask=here[:, None] & inside, other=0)
        weight = tl.load(w_ptrs + step * (DEEP // 2), mask=there[:, None] & inside, other=0)
        x_scale = tl.load(x_scale_ptrs + step * (DEEP // 16), mask=here[:, None] & scaled, other=0)
        w_scale = tl.load(w_scale_ptrs + step * (DEEP // 16), mask=there[:, None] & scaled, other=0)
        if INTERPRETED:
            acc = tl.dot(decoded(x, x_scale, HIGH, DEEP), tl.trans(decoded(weight, w_scale, WIDE, DEEP)), acc)
        else:
            x_scale, w_scale = x_scale.to(tl.float8e4nv, bitcast=True), w_scale.to(tl.float8e4nv, bitcast=True)
            acc = tl.dot_scaled(x, x_scale, "e2m1", weight.T, w_scale, "e2m1", acc)
    acc *= tl.load(x_scale_2_ptr) * tl.load(scale_2_ptr)
    if HAS_BIAS:
        acc += tl.load(bias_ptr + feature, mask=there, other=0.0).to(tl.float32)[None, :]
    places = token.to(tl.int64)[:, None] * features + feature[None, :]
    tl.store(out_ptr + places, acc.to(out_ptr.dtype.element_ty), mask=here[:, None] & there[None, :])

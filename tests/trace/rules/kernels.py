"""Custom kernels for the tests: operations that torch does not know, each computed by plain torch inside."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.library.custom_op("mtcore_kernels::shuffle", mutates_args=())
def shuffle(x: Tensor) -> Tensor:
    """The last axis, backwards."""
    return x.flip(-1).clone()


@torch.library.custom_op("mtcore_kernels::leak", mutates_args=())
def leak(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.1 * x)


@torch.library.custom_op("mtcore_kernels::squash", mutates_args=())
def squash(x: Tensor) -> Tensor:
    return torch.tanh(x)


@torch.library.custom_op("mtcore_kernels::attend", mutates_args=())
def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[batch, tokens, heads, channels]; k and v may have fewer heads."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2).clone()


@torch.library.custom_op("mtcore_kernels::rms_norm", mutates_args=())
def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x * x.square().mean(-1, keepdim=True).add(1e-6).rsqrt() * weight


@torch.library.custom_op("mtcore_kernels::grouped", mutates_args=())
def grouped(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    starts = [0, *ends.tolist()[:-1]]
    return torch.cat([x[s:e] @ w for s, e, w in zip(starts, ends.tolist(), weight, strict=True)])


@torch.library.custom_op("mtcore_kernels::scan", mutates_args=())
def selective_scan(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """x, dt [batch, D, L], a [D, N], b, c [batch, N, L], d [D]."""
    state = x.new_zeros(*x.shape[:2], a.shape[1])
    out = []
    for t in range(x.shape[2]):
        step = dt[:, :, t, None]
        state = torch.exp(step * a) * state + step * b[:, None, :, t] * x[:, :, t, None]
        out.append((state * c[:, None, :, t]).sum(-1) + d * x[:, :, t])
    return torch.stack(out, dim=-1)

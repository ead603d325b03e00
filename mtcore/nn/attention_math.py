"""Scaled dot-product attention with its four operands in the open: q, k, v and softmax."""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AttentionQuantizers(Protocol):
    """The quantizers of the operands of the two products; identities where nothing is to be done."""

    q_quantizer: nn.Module
    k_quantizer: nn.Module
    v_quantizer: nn.Module
    softmax_quantizer: nn.Module


def attention(
    quantizers: AttentionQuantizers,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Tensor, Tensor]:
    """softmax(q kᵀ · scale + mask) v, and the softmax itself.

    Arguments and result are those of torch.nn.functional.scaled_dot_product_attention, written out as its
    documentation says: query [..., heads, L, E], key and value [..., kv heads, S, E or Ev].
    """
    q, k, v = quantizers.q_quantizer(query), quantizers.k_quantizer(key), quantizers.v_quantizer(value)
    if enable_gqa:
        k = k.repeat_interleave(q.shape[-3] // k.shape[-3], -3)
        v = v.repeat_interleave(q.shape[-3] // v.shape[-3], -3)
    scores = q @ k.transpose(-2, -1) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if is_causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~seen, -torch.inf)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    # A row without any key gives 0, as torch's operator does.
    probabilities = scores.softmax(dim=-1).masked_fill((scores == -torch.inf).all(dim=-1, keepdim=True), 0.0)
    probabilities = F.dropout(probabilities, dropout_p) if dropout_p else probabilities
    return quantizers.softmax_quantizer(probabilities) @ v, probabilities

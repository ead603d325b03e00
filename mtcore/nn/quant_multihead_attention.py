"""QuantMultiheadAttention: projections, and the operands of both attention products, quantized."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtcore.nn.attention_math import attention
from mtcore.nn.low_rank_linear import LowRankLinear
from mtcore.nn.quant_linear import QuantLinear
from mtcore.nn.quant_module import QuantModule, is_idle
from mtcore.nn.spec import QuantModuleSpec, WeightSlot


class QuantMultiheadAttention(QuantModule, nn.MultiheadAttention):
    """nn.MultiheadAttention with the slots input (query, key and value), q, k, v, softmax, output and its weights.

    `out_proj` is a layer of its own: it is quantized as nn.Linear, and called here if anything but its weight is.
    torch's own forward, fast path included, runs on quantized weights and inputs as long as no operand inside it is
    quantized.
    """

    input_quantizer: nn.Module
    q_quantizer: nn.Module
    k_quantizer: nn.Module
    v_quantizer: nn.Module
    softmax_quantizer: nn.Module
    output_quantizer: nn.Module

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v = self._inputs(query, key, value)
        if self._closed():
            with ExitStack() as stack:
                stack.enter_context(_shadowed(self, self._quantized_weights()))
                if isinstance(self.out_proj, QuantLinear):
                    weight = self.out_proj.weight_quantizer(self.out_proj.weight)
                    stack.enter_context(_shadowed(self.out_proj, {"weight": weight}))
                y, p = super().forward(
                    q, k, v, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
                )
            return self.output_quantizer(y), p
        batched = query.dim() == 3
        if not batched:
            q, k, v = (x.unsqueeze(0) for x in (q, k, v))
        elif not self.batch_first:
            q, k, v = (x.transpose(0, 1) for x in (q, k, v))
        y, p = self._open(q, k, v, key_padding_mask, attn_mask)
        y = self.output_quantizer(y)
        if not batched:
            y, p = y.squeeze(0), p.squeeze(0)
        elif not self.batch_first:
            y = y.transpose(0, 1)
        if not need_weights:
            return y, None
        return y, p.mean(dim=-3) if average_attn_weights else p

    def _closed(self) -> bool:
        """Whether torch's forward can run as it is: nothing is quantized between the projections."""
        inside = [self.q_quantizer, self.k_quantizer, self.v_quantizer, self.softmax_quantizer]
        if isinstance(self.out_proj, LowRankLinear):
            return False  # torch's forward would read its weight alone
        if isinstance(self.out_proj, QuantLinear):
            inside += [self.out_proj.input_quantizer, self.out_proj.output_quantizer]
        return all(is_idle(quantizer) for quantizer in inside)

    def _inputs(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each tensor quantized once, so that self-attention is still seen as such."""
        q = self.input_quantizer(query)
        k = q if key is query else self.input_quantizer(key)
        v = q if value is query else k if value is key else self.input_quantizer(value)
        return q, k, v

    def _quantized_weights(self) -> dict[str, Tensor]:
        weights = {}
        for slot, attribute in self.slots.items():
            parameter = self._parameters.get(slot)
            if parameter is not None:
                weights[slot] = self.get_submodule(attribute)(parameter)
        return weights

    def _open(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None, attn_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Attention step by step on [batch, length, features]; probabilities are [batch, heads, L, S]."""
        q, k, v = self._project(query, key, value)
        batch, length = q.shape[:2]
        extra = 0
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat((k, self.bias_k.expand(batch, 1, -1)), dim=1)
            v = torch.cat((v, self.bias_v.expand(batch, 1, -1)), dim=1)
            extra += 1
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
            extra += 1
        q, k, v = (x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2) for x in (q, k, v))
        mask = self._mask(attn_mask, key_padding_mask, batch, extra, q)
        y, p = attention(self, q, k, v, mask, self.dropout if self.training else 0.0)
        return self.out_proj(y.transpose(1, 2).reshape(batch, length, -1)), p

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        quantized = self._quantized_weights()
        if self._qkv_same_embed_dim:
            weights = quantized.get("in_proj_weight", self.in_proj_weight).chunk(3)
        else:
            names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
            weights = tuple(quantized.get(name, getattr(self, name)) for name in names)
        biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return tuple(F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))

    def _mask(
        self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, batch: int, extra: int, like: Tensor
    ) -> Tensor | None:
        """Both masks as one that is added to the scores [batch, heads, L, S + extra]."""
        total: Tensor | None = None
        if attn_mask is not None:
            added = _additive(attn_mask, like)
            total = added if added.dim() == 2 else added.reshape(batch, self.num_heads, *added.shape[1:])
        if key_padding_mask is not None:
            padding = _additive(key_padding_mask, like).reshape(batch, 1, 1, -1)
            total = padding if total is None else total + padding
        return total if total is None or not extra else F.pad(total, (0, extra))


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    """A mask of -inf and 0 from one whose True means "leave out"; float masks stay."""
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, -torch.inf)


@contextmanager
def _shadowed(module: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Let attributes of these names give other tensors; the parameters themselves stay where they are."""
    module.__dict__.update(tensors)
    try:
        yield
    finally:
        for name in tensors:
            del module.__dict__[name]


MULTIHEAD_ATTENTION = QuantModuleSpec(
    "nn.MultiheadAttention",
    nn.MultiheadAttention,
    QuantMultiheadAttention,
    weights=(WeightSlot("*proj_weight"),),
    activations=("input", "q", "k", "v", "softmax", "output"),
    children=("out_proj",),
)

"""Quantized embeddings: the table is quantized, rows are looked up in it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtcore.nn.quant_module import QuantModule
from mtcore.nn.spec import QuantModuleSpec


class QuantEmbedding(QuantModule, nn.Embedding):
    """nn.Embedding with the slots weight and output; `max_norm` is applied to the original table."""

    weight_quantizer: nn.Module
    output_quantizer: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        _renormalize(self.weight, input, self.max_norm, self.norm_type)
        table = self.weight_quantizer(self.weight)
        rows = F.embedding(input, table, self.padding_idx, None, 2.0, self.scale_grad_by_freq, self.sparse)
        y: Tensor = self.output_quantizer(rows)
        return y


class QuantEmbeddingBag(QuantModule, nn.EmbeddingBag):
    """nn.EmbeddingBag, as QuantEmbedding."""

    weight_quantizer: nn.Module
    output_quantizer: nn.Module

    def forward(
        self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None
    ) -> Tensor:
        _renormalize(self.weight, input, self.max_norm, self.norm_type)
        bags = F.embedding_bag(
            input,
            self.weight_quantizer(self.weight),
            offsets,
            None,
            2.0,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )
        y: Tensor = self.output_quantizer(bags)
        return y


def _renormalize(weight: Tensor, rows: Tensor, max_norm: float | None, norm_type: float) -> None:
    """Shrink the rows that are looked up to `max_norm`, in place, as torch does."""
    if max_norm is not None:
        with torch.no_grad():
            torch.embedding_renorm_(weight.detach(), rows.contiguous(), max_norm, norm_type)


EMBEDDINGS = (
    QuantModuleSpec("nn.Embedding", nn.Embedding, QuantEmbedding, activations=("output",), by_name_only=True),
    QuantModuleSpec(
        "nn.EmbeddingBag", nn.EmbeddingBag, QuantEmbeddingBag, activations=("output",), by_name_only=True
    ),
)

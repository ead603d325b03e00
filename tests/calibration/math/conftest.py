"""Layers with correlated inputs, as small as the maths allows."""

import pytest
import torch


@pytest.fixture
def layer():
    """layer(rows, cols): a weight [rows, cols], inputs [tokens, cols] whose channels are correlated, and Σ x xᵀ."""

    def make(rows=6, cols=32, tokens=200, seed=0):
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(rows, cols, generator=generator)
        mixing = torch.randn(cols, cols, generator=generator) / cols**0.5 + torch.eye(cols)
        inputs = torch.randn(tokens, cols, generator=generator) @ mixing
        return weight, inputs, inputs.T @ inputs

    return make

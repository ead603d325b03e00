"""Tensors of a state dict that share storage: each stands once, the others by reference."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def tied_tensors(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Split a state dict into its distinct tensors and {name: name of the first with the same storage}."""
    distinct: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    seen: dict[tuple[int, tuple[int, ...], tuple[int, ...]], str] = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if tensor.numel() and place in seen:
            tied[name] = seen[place]
        else:
            seen[place] = name
            distinct[name] = tensor.detach()
    return distinct, tied

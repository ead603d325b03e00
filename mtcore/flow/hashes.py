"""Hashes: of what decides a result, so that a run goes on only with what it was begun on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtcore import __version__
from mtcore.files import drop_pages
from mtcore.plan import Plan, plan_to_dict
from mtcore.trace.structure import tensors_in


def hash_model(model: nn.Module, *, let_go: bool = True) -> str:
    """SHA-256 over names, shapes, dtypes and values of parameters and buffers.

    Args:
        let_go: of the memory of weights that lie in files, which takes back what was written into them since.
    """
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(_bytes(tensor))
        if let_go:
            drop_pages(tensor)
    return digest.hexdigest()


def hash_plan(plan: Plan) -> str:
    """SHA-256 over everything that was decided."""
    return hashlib.sha256(json.dumps(plan_to_dict(plan), sort_keys=True).encode()).hexdigest()


def hash_batches(batches: Sequence[Any]) -> str:
    """SHA-256 over the tensors of all batches, in order."""
    digest = hashlib.sha256()
    for batch in batches:
        for tensor in tensors_in(batch):
            digest.update(f"{tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(_bytes(tensor))
        digest.update(b"batch\n")
    return digest.hexdigest()


def hash_values(values: Mapping[str, Any]) -> str:
    """SHA-256 over plain values, and over what computes: the versions of mtcore and torch."""
    content = {**values, "mtcore": __version__, "torch": torch.__version__}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()

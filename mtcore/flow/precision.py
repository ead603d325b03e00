"""Compute in fp32 on a CPU, where 16-bit products are several times slower, and write the original dtypes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from mtcore.calibration.residency import NARROW
from mtcore.export import Artifact


def widen_on_cpu(model: nn.Module) -> dict[str, torch.dtype]:
    """Turn 16-bit floating parameters and buffers on the CPU into fp32, in place; every value stays exact.

    Returns:
        The dtypes that were changed, by name in the state dict, for `restore_dtypes`.
    """
    state = model.state_dict(keep_vars=True)
    changed = {name: t.dtype for name, t in state.items() if t.dtype in NARROW and t.device.type == "cpu"}
    for tensor in {id(state[name]): state[name] for name in changed}.values():
        tensor.data = tensor.data.float()
    return changed


@contextmanager
def widened_on_cpu(model: nn.Module) -> Iterator[None]:
    """The same for a while: afterwards every parameter and buffer has its dtype, and its value, again."""
    changed = widen_on_cpu(model)
    state = model.state_dict(keep_vars=True)
    try:
        yield
    finally:
        for tensor, dtype in {id(state[name]): (state[name], dtype) for name, dtype in changed.items()}.values():
            tensor.data = tensor.data.to(dtype)


def restore_dtypes(artifact: Artifact, dtypes: Mapping[str, torch.dtype]) -> Artifact:
    """The artifact as it would be had the model never been widened: its tensors in their original dtypes."""
    tensors = {name: t.to(dtypes[name]) if name in dtypes else t for name, t in artifact.tensors.items()}
    modules = {}
    for name, module in artifact.modules.items():
        prefix = f"{name}." if name else ""
        weights = {
            slot: replace(q, dtype=dtypes.get(f"{prefix}{slot.partition('.')[0]}", q.dtype))
            for slot, q in module.weights.items()
        }
        modules[name] = replace(module, weights=weights)
    return replace(artifact, tensors=tensors, modules=modules)

"""Experts that transformers looks for in one tensor, and does not find one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mtopt_hf.checkpoint.apart import opened_by_transformers
from mtopt_hf.checkpoint.hub import reverted, skeleton_of


def kept_together(config: Mapping[str, Any], module: str) -> bool:
    """Whether transformers would open the numbered experts of this module with values that no file gave.

    It would where the module holds a stack in memory, the hub has that as one tensor too, and transformers takes
    neither apart. False where this cannot be told: the architecture, or a module of this name in it, is unknown.

    Args:
        config: content of config.json.
        module: name of the experts, in memory.

    Raises:
        Exception: whatever transformers raises for a configuration that it cannot build.
    """
    skeleton = skeleton_of({key: value for key, value in config.items() if key != "quantization_config"})
    experts = dict(skeleton.named_modules()).get(module) if skeleton is not None else None
    if experts is None:
        return False
    stacks = [(name, tensor) for name, tensor in experts.named_parameters(recurse=False) if tensor.dim() == 3]
    for name, tensor in stacks:
        found = reverted(skeleton, {f"{module}.{name}": torch.empty_like(tensor[:2], device="meta")})
        if any(one.dim() != 3 for one in found.values()):
            return False
    return bool(stacks) and not opened_by_transformers(experts, skeleton.config)

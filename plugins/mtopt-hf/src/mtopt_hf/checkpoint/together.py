"""How transformers holds a module of the files: experts in one tensor, or as layers; a name as a linear layer."""

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
        module: name of the experts, in memory or on the hub.

    Raises:
        Exception: whatever transformers raises for a configuration that it cannot build.
    """
    skeleton, name, experts = _found(config, module)
    if experts is None:
        return False
    stacks = [(leaf, tensor) for leaf, tensor in experts.named_parameters(recurse=False) if tensor.dim() == 3]
    for leaf, tensor in stacks:
        found = reverted(skeleton, {f"{name}.{leaf}": torch.empty_like(tensor[:2], device="meta")})
        if any(one.dim() != 3 for one in found.values()):
            return False
    return bool(stacks) and not opened_by_transformers(experts, skeleton.config)


def layers_of_their_own(config: Mapping[str, Any], module: str) -> bool:
    """Whether transformers would hold the numbered experts of this module as linear layers, not merged.

    They are then decoded as all other layers are. Arguments and errors as above.
    """
    skeleton, _, experts = _found(config, module)
    if experts is None:
        return False
    return isinstance(experts, torch.nn.ModuleList) or opened_by_transformers(experts, skeleton.config)


def is_linear(config: Mapping[str, Any], module: str) -> bool:
    """Whether transformers holds a linear layer under this name. Arguments and errors as above."""
    return isinstance(_found(config, module)[2], torch.nn.Linear)


def _found(config: Mapping[str, Any], module: str) -> tuple[Any, str, torch.nn.Module | None]:
    """The empty model, and the module in it with its name there; stacks are found by their names on the hub too."""
    skeleton = skeleton_of(config)
    modules = dict(skeleton.named_modules()) if skeleton is not None else {}
    if module in modules:
        return skeleton, module, modules[module]
    for name, candidate in modules.items():
        stacks = [n for n, p in candidate.named_parameters(recurse=False) if p.dim() == 3]
        if stacks and name.rpartition(".")[2] == module.rpartition(".")[2]:
            (hub, *_) = reverted(skeleton, {f"{name}.{stacks[0]}": torch.empty(2, 2, 2, device="meta")})
            if hub.rpartition(".")[0] == module:
                return skeleton, name, candidate
    return skeleton, module, None

"""Names and layouts of weights on the hub, where transformers holds them otherwise in memory.

transformers 5 renames some weights when it loads them and merges others: the matrices of all experts of a layer
become one tensor. A file is written in the hub's way, by transformers' own reverse of what it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from mtcore.errors import ExportError

WEIGHT = ".weight"


@dataclass(frozen=True)
class HubView:
    """A state dict as the hub holds it.

    Attributes:
        tensors: unquantized tensors by their names on the hub.
        modules: name of a quantized module in memory → its name on the hub.
    """

    tensors: Mapping[str, Tensor]
    modules: Mapping[str, str]


def hub_view(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], quantized: Mapping[str, Sequence[int]]
) -> HubView:
    """Bring names and layouts to what the hub uses.

    Args:
        config: content of config.json; without a model_type, names stay as they are.
        tensors: the unquantized part of the state dict.
        quantized: shape of the weight of every quantized module.

    Raises:
        ExportError: on the hub, the weight of a quantized module is part of another tensor.
    """
    skeleton = _skeleton(config)
    if skeleton is None:
        return HubView(tensors, {name: name for name in quantized})
    dropped = set(skeleton._keys_to_ignore_on_save or ())
    kept = {name: tensor for name, tensor in tensors.items() if name not in dropped}
    modules = _module_names(skeleton, kept, quantized)
    return HubView(_revert(skeleton, kept), modules)


def _module_names(
    skeleton: Any, tensors: Mapping[str, Tensor], quantized: Mapping[str, Sequence[int]]
) -> dict[str, str]:
    """Follow empty stand-ins of the weights through the conversion: one that comes out as it was is renamed."""
    empty = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    standins = {name: torch.empty(tuple(shape), device="meta") for name, shape in quantized.items()}
    outcome = _revert(skeleton, empty | {f"{name}{WEIGHT}": standin for name, standin in standins.items()})
    by_identity = {id(tensor): name for name, tensor in outcome.items()}
    hub = {name: by_identity.get(id(standin), "") for name, standin in standins.items()}
    lost = [name for name, outside in hub.items() if not outside.endswith(WEIGHT)]
    if lost:
        why = "on the hub its weight is part of another tensor, which cannot be quantized yet; exclude it"
        raise ExportError([f"{name}: {why}" for name in lost])
    return {name: outside.removesuffix(WEIGHT) for name, outside in hub.items()}


def _skeleton(config: Mapping[str, Any]) -> Any:
    """The model of this configuration without storage, or None where transformers has nothing to revert."""
    if "model_type" not in config:
        return None
    if find_spec("transformers.conversion_mapping") is None:
        return None  # transformers 4 holds weights as the hub does
    from transformers import CONFIG_MAPPING

    from mtopt_hf.load.model_class import build_empty

    settings = CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))  # as from a file: infinities are tagged
    with torch.device("meta"):
        return build_empty(config, settings)


def _revert(skeleton: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    from transformers.core_model_loading import revert_weight_conversion

    reverted: dict[str, Tensor] = revert_weight_conversion(skeleton, dict(tensors))
    return reverted

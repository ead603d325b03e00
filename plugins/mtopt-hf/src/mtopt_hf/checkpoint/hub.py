"""Names and layouts of weights on the hub, where transformers holds them otherwise in memory.

transformers 5 renames some weights when it loads them and merges others: the matrices of all experts of a layer
become one tensor. A file is written in the hub's way, by transformers' own reverse of what it does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from mtcore.errors import ExportError
from mtopt_hf.checkpoint.apart import opened_by_transformers, taken_apart
from mtopt_hf.checkpoint.layer import Layer, cuts_blocks
from mtopt_hf.checkpoint.pairs import Pair
from mtopt_hf.checkpoint.some import some, with_remedy
from mtopt_hf.checkpoint.stacks import STACKED_THERE, Piece, pieces_of

WEIGHT = ".weight"

_TAKEN = (
    "vLLM 0.32 takes experts apart as gate_proj, up_proj and down_proj without biases, transformers 5.23 those "
    "that the hub has apart; both take gpt-oss's in MXFP4 from the dialect mxfp4"
)


@dataclass(frozen=True)
class HubView:
    """A model as the hub holds it.

    Attributes:
        tensors: unquantized tensors by their names on the hub.
        layers: quantized matrices, under their names on the hub.
        others: other names in memory that were asked for → their names on the hub.
        apart: modules of experts that the hub keeps in one tensor, and which are taken apart → whether transformers
            opens them so.
    """

    tensors: Mapping[str, Tensor]
    layers: tuple[Layer, ...]
    others: Mapping[str, str] = field(default_factory=dict)
    apart: Mapping[str, bool] = field(default_factory=dict)


def hub_view(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    pairs: Sequence[Pair],
    others: Iterable[str] = (),
    *,
    stacked: bool = False,
) -> HubView:
    """Bring names and layouts to what the hub uses.

    Args:
        config: content of config.json; without a model_type, names stay as they are.
        tensors: the unquantized part of the state dict.
        pairs: what is quantized.
        others: names of tensors that only the file has, such as scales of a cache, spelled as if in memory.
        stacked: experts stay stacked as the hub has them.

    Raises:
        ExportError: on the hub, a quantized weight is part of another tensor, or is stacked with others in a way
            that no client reads apart.
    """
    skeleton = skeleton_of(config)
    if skeleton is None:
        if nameless := [pair.module.name for pair in pairs if pair.experts is not None]:
            raise ExportError(
                [f"{some(nameless)}: without a model_type in its configuration, experts have no names"]
            )
        return HubView(tensors, tuple(Layer(pair.module.name, pair) for pair in pairs), {n: n for n in others})
    dropped = set(skeleton._keys_to_ignore_on_save or ())
    kept = {name: tensor for name, tensor in tensors.items() if name not in dropped}
    names = _renamed(skeleton, kept, pairs, others)
    layers: list[Layer] = []
    apart: dict[str, bool] = {}
    problems: dict[str, list[str]] = {}
    for pair in pairs:
        if pair.experts is None:
            hub = names[_in_memory(pair)]
            if hub.endswith(WEIGHT):
                layers.append(Layer(hub.removesuffix(WEIGHT), pair))
            else:
                why = "on the hub its weight is part of another tensor, which cannot be quantized yet; exclude it"
                problems.setdefault(why, []).append(pair.module.name)
            continue
        found = _of_experts(skeleton, pair, stacked=stacked)
        if isinstance(found, str):
            problems.setdefault(found, []).append(pair.module.name)
            continue
        layers += found.layers
        apart |= found.apart
    for layer in layers:
        if layer.rows is not None and cuts_blocks(layer.pair, layer.rows):
            fmt = layer.weight.format
            why = f"on the hub its rows lie in two tensors, and a block of {fmt.name} would be cut; exclude it"
            problems.setdefault(why, []).append(layer.pair.module.name)
    if problems:
        raise ExportError([f"{some(names)}: {with_remedy(why, names)}" for why, names in problems.items()])
    return HubView(reverted(skeleton, kept), tuple(layers), {name: names[name] for name in others}, apart)


def _of_experts(skeleton: Any, pair: Pair, *, stacked: bool) -> HubView | str:
    """The layers of stacked experts alone, or why there are none."""
    prefix, leaf = _on_hub(skeleton, pair)
    if stacked:
        if leaf != pair.parameter:
            return "on the hub its experts are not stacked as in memory; exclude it"
        return HubView({}, (Layer(prefix, pair),))
    pieces: tuple[Piece, ...] | str = STACKED_THERE
    if not leaf:  # a large stack takes its time to be sent through in numbers
        pieces = pieces_of(_in_memory(pair), pair, lambda tensors: reverted(skeleton, tensors))
    apart: dict[str, bool] = {}
    if pieces == STACKED_THERE:
        experts = skeleton.get_submodule(pair.module.name)
        # in the file the module is named as on the hub, if the stack lies in the same one there
        same = leaf == pair.parameter or prefix.rpartition(".")[2] == pair.module.name.rpartition(".")[2]
        pieces = taken_apart(experts, prefix if same else pair.module.name, pair)
        if isinstance(pieces, str):
            return f"on the hub its experts are one tensor, and {pieces}. {_TAKEN}; exclude it"
        apart = {pair.module.name: opened_by_transformers(experts, skeleton.config)}
    if isinstance(pieces, str):
        return pieces
    return HubView({}, tuple(Layer(piece.name, pair, piece.expert, piece.rows) for piece in pieces), apart=apart)


def _on_hub(skeleton: Any, pair: Pair) -> tuple[str, str]:
    """Module and last part of the name of a stack on the hub; empty where there is no such single tensor."""
    found = reverted(skeleton, {_in_memory(pair): torch.empty(2, pair.rows, pair.cols, device="meta")})
    (hub, tensor), *more = found.items()
    if more or tensor.shape != (2, pair.rows, pair.cols):
        return "", ""
    prefix, _, leaf = hub.rpartition(".")
    return prefix, leaf


def _in_memory(pair: Pair) -> str:
    return f"{pair.module.name}.{pair.parameter}" if pair.module.name else pair.parameter


def _renamed(
    skeleton: Any, tensors: Mapping[str, Tensor], pairs: Sequence[Pair], others: Iterable[str]
) -> dict[str, str]:
    """Follow empty stand-ins of the weights through the conversion: one that comes out as it was is renamed.

    Those that do not come out have an empty name.
    """
    empty = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    plain = {_in_memory(pair): (pair.rows, pair.cols) for pair in pairs if pair.experts is None}
    shapes = {**plain, **dict.fromkeys(others, (1,))}
    standins = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    by_identity = {id(tensor): name for name, tensor in reverted(skeleton, empty | standins).items()}
    return {name: by_identity.get(id(standin), "") for name, standin in standins.items()}


def skeleton_of(config: Mapping[str, Any]) -> Any:
    """The model of this configuration without storage, or None where transformers has nothing to revert.

    How a checkpoint is quantized plays no part.
    """
    return _built(json.dumps({key: value for key, value in config.items() if key != "quantization_config"}))


@lru_cache(maxsize=1)  # a plan asks for the same one several times, and only reads it
def _built(text: str) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    config = json.loads(text)
    if config.get("model_type") not in CONFIG_MAPPING:
        return None  # no model of transformers: its own code holds weights as its files do
    if find_spec("transformers.conversion_mapping") is None:
        return None  # transformers 4 holds weights as the hub does
    from mtopt_hf.load.model_class import build_empty

    with TemporaryDirectory() as folder:  # infinities have a spelling of their own that only a file's reader knows
        Path(folder, "config.json").write_text(text, encoding="utf-8")
        settings = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        return build_empty(config, settings)


def reverted(skeleton: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """From tensors by their names in memory to those of the hub, as transformers saves them."""
    from transformers.core_model_loading import revert_weight_conversion

    found: dict[str, Tensor] = revert_weight_conversion(skeleton, dict(tensors))
    return found

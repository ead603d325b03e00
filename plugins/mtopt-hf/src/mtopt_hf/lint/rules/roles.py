"""Rules on what a module is in the model: embeddings, heads, routers, experts; and on which model it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mtcore.lint import EVERYONE, Checkpoint, Hit, RuleSpec, Severity
from mtopt_hf.lint.architecture import asked
from mtopt_hf.lint.config import mapping, matches, whole
from mtopt_hf.lint.names import expert_of, is_embedding, is_head, is_router
from mtopt_hf.lint.view import view_of

_SERVERS = ("vllm", "trtllm", "sglang")
_LAYER = re.compile(r"^(?:model\.)?(?:language_model\.)?(?:model\.)?layers\.(\d{1,6})\.")
_STACKED = re.compile(r"\.experts\.(gate_up_proj|down_proj|gate_proj|up_proj)(_\w+|\.\w+)?$")


def embedding(checkpoint: Checkpoint) -> Iterator[Hit]:
    for module in view_of(checkpoint).quantized:
        if is_embedding(module.name) and not _linear(checkpoint, module.name):
            kind = "" if module.scheme is None else module.scheme.kind
            clients = ("trtllm", "sglang", "transformers") if kind == "pack" else ()
            why = "an embedding is quantized; only vLLM reads that, and only as pack-quantized integers"
            yield Hit(module.name, why, "leave embeddings in floats", clients)


def _linear(checkpoint: Checkpoint, name: str) -> bool:
    """Whether the architecture, where transformers has it, holds a linear layer under an embedding-like name."""
    from mtopt_hf.checkpoint.together import is_linear

    return asked(is_linear, checkpoint.config, name, otherwise=False)


def head(checkpoint: Checkpoint) -> Iterator[Hit]:
    view = view_of(checkpoint)
    if view.says.method != "compressed-tensors":
        return
    named = [target for group in view.says.groups for target in group.targets]
    for module in view.quantized:
        if is_head(module.name) and not any(matches(target, module.name) for target in named):
            why = "the output layer is quantized, but servers hold it as a class of its own, not as Linear"
            yield Hit(module.name, f"{why}: they read its codes as values", "name it as a target", _SERVERS)


def tied(checkpoint: Checkpoint) -> Iterator[Hit]:
    if _text_config(checkpoint).get("tie_word_embeddings", checkpoint.config.get("tie_word_embeddings")) is True:
        for module in view_of(checkpoint).quantized:
            if is_head(module.name):
                why = "tie_word_embeddings is true: clients take the embedding for it and drop these tensors"
                yield Hit(module.name, why, "set tie_word_embeddings to false, or leave the head in floats")


def router(checkpoint: Checkpoint) -> Iterator[Hit]:
    for module in view_of(checkpoint).quantized:
        if is_router(module.name):
            why = "a router is quantized; servers keep routers in floats and find no weight for it"
            yield Hit(module.name, why, "leave routers in floats")


def stacked(checkpoint: Checkpoint) -> Iterator[Hit]:
    says = view_of(checkpoint).says
    if says.method not in ("compressed-tensors", "modelopt") or "gpt_oss" in str(
        checkpoint.config.get("model_type")
    ):
        return
    for name, tensor in checkpoint.tensors.items():
        found = _STACKED.search(name)
        codes = tensor.dtype in ("U8", "I8", "I32", "F8_E4M3")
        if found and len(tensor.shape) == 3 and codes and "llama4" not in str(checkpoint.config.get("model_type")):
            why = "the experts of a layer are one tensor; servers read quantized experts one by one"
            yield Hit(name, why, "write experts.<number>.<layer>.weight and its scales")


def blocks(checkpoint: Checkpoint) -> Iterator[Hit]:
    for module in view_of(checkpoint).quantized:
        codes, scales = module.parts.get("blocks"), module.parts.get("scales")
        if codes is None or scales is None or len(codes.shape) != 4:
            continue
        if codes.shape[3] != 16:
            why = f"its last axis is {codes.shape[3]}; a block is 32 4-bit codes in 16 bytes"
            yield Hit(codes.name, why, "write [experts, out, in / 32, 16]")
        elif scales.shape != codes.shape[:3]:
            right = f"for blocks of {list(codes.shape)} it is {list(codes.shape[:3])}"
            yield Hit(scales.name, f"it has shape {list(scales.shape)}; {right}", "write one scale a block")


def expert_missing(checkpoint: Checkpoint) -> Iterator[Hit]:
    wanted = _number(
        _text_config(checkpoint), "num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"
    )
    for place, found in _experts(checkpoint).items():
        have = set(found)
        count = wanted or max(have) + 1
        lacking = sorted(set(range(min(count, 100_000))) - have)
        if lacking:
            shown = ", ".join(map(str, lacking[:5])) + (", …" if len(lacking) > 5 else "")
            yield Hit(place, f"of {count} experts {len(lacking)} are missing ({shown})", "write every expert")


def expert_mixed(checkpoint: Checkpoint) -> Iterator[Hit]:
    modules = view_of(checkpoint).modules
    for place, found in _experts(checkpoint).items():
        states = {
            (layer, modules[name].stored_quantized) for layers in found.values() for layer, name in layers.items()
        }
        for layer in sorted({layer for layer, state in states if (layer, not state) in states}):
            why = f"{layer} is quantized in some experts and not in others; servers hold all experts in one tensor"
            yield Hit(place, why, "quantize all experts, or none")


def expert_parts(checkpoint: Checkpoint) -> Iterator[Hit]:
    modules = view_of(checkpoint).modules
    for place, found in _experts(checkpoint).items():
        parts: dict[str, set[frozenset[str]]] = {}
        for layers in found.values():
            for layer, name in layers.items():
                if modules[name].stored_quantized:
                    parts.setdefault(layer, set()).add(frozenset(modules[name].parts))
        for layer, kinds in parts.items():
            if len(kinds) > 1:
                odd = sorted(frozenset.union(*kinds) - frozenset.intersection(*kinds))
                why = f"{layer} has {', '.join(odd)} in some experts only: servers fill the others with anything"
                yield Hit(place, why, "write it for every expert; calibrate with data that reach them")


def _experts(checkpoint: Checkpoint) -> Mapping[str, Mapping[int, Mapping[str, str]]]:
    return checkpoint.derive(_find_experts)


def _find_experts(checkpoint: Checkpoint) -> dict[str, dict[int, dict[str, str]]]:
    experts: dict[str, dict[int, dict[str, str]]] = {}
    for name in view_of(checkpoint).modules:
        found = expert_of(name)
        if found is not None:
            place, number, layer = found
            experts.setdefault(place, {}).setdefault(number, {})[layer] = name
    return experts


def other_model(checkpoint: Checkpoint) -> Iterator[Hit]:
    config = _text_config(checkpoint)
    size = _number(config, "hidden_size", "n_embd", "d_model")
    words = _number(config, "vocab_size")
    for name, tensor in checkpoint.tensors.items():
        module = name.removesuffix(".weight")
        if module.rpartition(".")[2] not in ("embed_tokens", "wte") or len(tensor.shape) != 2:
            continue
        if words and size and tensor.shape != (words, size):
            own = _number(config, "embedding_size", "word_embed_proj_dim", "embedding_dim")
            if tensor.shape[1] not in (size, own) or tensor.shape[0] < words:
                why = f"it has shape {list(tensor.shape)}, but config.json says {words} x {size}: another model's"
                yield Hit(name, why, "copy the model's own config.json")


def layer_count(checkpoint: Checkpoint) -> Iterator[Hit]:
    wanted = _number(_text_config(checkpoint), "num_hidden_layers", "n_layer")
    more = _number(_text_config(checkpoint), "num_nextn_predict_layers", "mtp_num_hidden_layers")
    numbers = {int(found[1]) for name in checkpoint.tensors if (found := _LAYER.match(name))}
    if not wanted or not numbers or checkpoint.config.get("is_encoder_decoder"):
        return
    lacking = sorted(set(range(min(wanted, 100_000))) - numbers)
    if lacking or max(numbers) >= wanted + more:
        what = f"layers {lacking[:3]} have no tensor" if lacking else f"layer {max(numbers)} is one too many"
        yield Hit("config.json", f"it says {wanted} layers, but {what}", "copy the model's own config.json")


def _text_config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    return mapping(checkpoint.config.get("text_config")) or checkpoint.config


def _number(config: Mapping[str, Any], *keys: str) -> int:
    return next((found for key in keys if (found := whole(config.get(key), 0)) > 0), 0)


_ALL: Mapping[str, Severity] = {EVERYONE: "error"}
RULES = (
    RuleSpec("embedding-quantized", "embeddings stay in floats", _ALL, embedding),
    RuleSpec("head-quantized", "a quantized output layer is named as a target", _ALL, head),
    RuleSpec("head-tied", "a quantized output layer is not tied", _ALL, tied),
    RuleSpec("router-quantized", "routers stay in floats", dict.fromkeys(_SERVERS, "error"), router),
    RuleSpec(
        "expert-stacked", "quantized experts are written one by one", dict.fromkeys(_SERVERS, "error"), stacked
    ),
    RuleSpec("expert-blocks", "experts of gpt-oss have 16 bytes and a scale a block", _ALL, blocks),
    RuleSpec("expert-missing", "every expert is there", _ALL, expert_missing),
    RuleSpec("expert-mixed", "experts are all quantized, or none", _ALL, expert_mixed),
    RuleSpec("expert-parts", "every expert has the same tensors", _ALL, expert_parts),
    RuleSpec("model-other", "the embedding has the size that config.json says", _ALL, other_model),
    RuleSpec("layer-count", "the layers are those that config.json says", _ALL, layer_count),
)

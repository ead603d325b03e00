"""Rules that running clients taught, beyond their tables of formats: vLLM 0.24 on an H200, transformers 5.23."""

from __future__ import annotations

from collections.abc import Iterator

from mtcore.lint import Checkpoint, Hit, RuleSpec
from mtopt_hf.lint.config import whole
from mtopt_hf.lint.names import expert_of
from mtopt_hf.lint.view import Module, view_of


def blocks(checkpoint: Checkpoint) -> Iterator[Hit]:
    """The last part of a joined layer may end inside a block; an expert has no last part."""
    for members in view_of(checkpoint).fused:
        parts = members if expert_of(members[0].name) is not None else members[:-1]
        for part in parts:
            high = _block_rows(part)
            if high and part.features is not None and part.features[0] % high:
                why = f"its {part.features[0]} output features end inside a block of {high} rows"
                yield Hit(part.name, f"{why}; it joins another layer to them and raises", "leave both in floats")


def _block_rows(module: Module) -> int:
    """Rows of a block of FP8 weights; 0 of all others."""
    scheme = module.scheme
    if scheme is None or scheme.kind not in ("fp8", "FP8_PB_WO"):
        return 0
    block = [128] if scheme.kind == "FP8_PB_WO" else scheme.weights.get("block_structure")
    return whole(block[0], 0) if isinstance(block, list) and block else 0


def inputs_rounded_too(checkpoint: Checkpoint) -> Iterator[Hit]:
    view = view_of(checkpoint)
    if any(module.scheme is not None and module.scheme.kind == "FP8_PB_WO" for module in view.quantized):
        why = "FP8_PB_WO is meant for weights alone, but it rounds inputs to FP8 as well, in runs of 128 columns"
        yield Hit(view.says.file, why, "nothing; expect the accuracy of FP8 inputs")


def channel_experts(checkpoint: Checkpoint) -> Iterator[Hit]:
    for module in view_of(checkpoint).quantized:
        kind = "" if module.scheme is None else module.scheme.kind
        if kind == "FP8_PER_CHANNEL_PER_TOKEN" and expert_of(module.name) is not None:
            why = "it takes the scale of an expert for one number, and fails where there is one a channel"
            yield Hit(module.name, why, "write compressed-tensors, or FP8 with one scale a tensor")
            return


def dense_qwen(checkpoint: Checkpoint) -> Iterator[Hit]:
    view = view_of(checkpoint)
    if view.says.method == "modelopt" and checkpoint.config.get("model_type") in ("qwen2", "qwen3"):
        for module in view.modules.values():
            if not {"k_scale", "v_scale"}.isdisjoint(module.parts) and module.name.endswith("_proj"):
                why = "cache scales lie in a projection of a dense Qwen model, whose loader does not take them"
                yield Hit(module.name, why, "leave the cache scales out, or write compressed-tensors")
                return


def experts_decoded(checkpoint: Checkpoint) -> Iterator[Hit]:
    """transformers 5.23 stacks experts by a decoder of its own, which knows less than that of layers."""
    view = view_of(checkpoint)
    if view.says.method != "compressed-tensors":
        return
    for module in view.quantized:
        scheme = module.scheme
        if scheme is None or expert_of(module.name) is None:
            continue
        known = scheme.kind in ("fp8", "pack") and scheme.weights.get("strategy") != "block"
        if not known or scheme.weights.get("symmetric") is False:
            why = f"it decodes experts in FP8 by tensor or channel and symmetric INT, not in {scheme.kind}"
            yield Hit(module.name, why, "choose one of these for experts, or another client")
            return


RULES = (
    RuleSpec(
        "experts-decoded", "experts have a format that is decoded", {"transformers": "error"}, experts_decoded
    ),
    RuleSpec("fused-block", "joined FP8 layers begin and end with a block", {"vllm": "error"}, blocks),
    RuleSpec("blocks-both", "weights alone are rounded where that is meant", {"vllm": "note"}, inputs_rounded_too),
    RuleSpec("channel-experts", "experts have no scale a channel in modelopt", {"vllm": "error"}, channel_experts),
    RuleSpec(
        "kv-dense-qwen", "dense Qwen models hold no cache scale in a projection", {"vllm": "error"}, dense_qwen
    ),
)

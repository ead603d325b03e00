"""Rules that running clients taught, beyond their tables of formats: vLLM 0.24 on an H100, transformers 5.23."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mtcore.lint import Checkpoint, Hit, RuleSpec
from mtopt_hf.lint.architecture import asked
from mtopt_hf.lint.config import Group, whole
from mtopt_hf.lint.names import expert_of
from mtopt_hf.lint.view import Module, view_of
from mtopt_hf.served import DECODED_AT_ONCE

W4A8_SIZE = 256
"""That vLLM's kernel for experts with 4-bit weights and FP8 inputs wants multiples of."""


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


def w4a8_experts(checkpoint: Checkpoint) -> Iterator[Hit]:
    """vLLM 0.24 and 0.32, `compressed_tensors_moe_w4a8_fp8.py`: the hidden size and that of an expert."""
    for module in view_of(checkpoint).quantized:
        scheme, features = module.scheme, module.features
        if scheme is None or features is None or expert_of(module.name) is None:
            continue
        inputs = scheme.inputs or {}
        if scheme.kind == "pack" and inputs.get("type") == "float" and any(size % W4A8_SIZE for size in features):
            why = f"an expert of {features[0]} x {features[1]} in 4 bits beside FP8 inputs: it wants multiples of"
            yield Hit(module.name, f"{why} {W4A8_SIZE} and raises", "give experts unquantized inputs, or NVFP4")
            return


def older(checkpoint: Checkpoint) -> Iterator[Hit]:
    """What vLLM 0.24 refused on an H100 and 0.32 has been taught since."""
    view = view_of(checkpoint)
    todo = "take a newer version; 0.32 has what it needs"
    for module in view.quantized:
        scheme = module.scheme
        if scheme is None:
            continue
        alone = view.says.method == "compressed-tensors" and scheme.inputs is None
        if scheme.kind == "MXFP8":
            why = "0.24 knows modelopt's MXFP8 and refuses it all the same, for a list of its own lacks the word"
        elif alone and scheme.kind == "fp8" and scheme.weights.get("strategy") != "block":
            why = "0.24 gives FP8 weights beside unquantized inputs no kernel on GPUs that have FP8 products"
        elif alone and scheme.kind == "pack" and scheme.bits == 8 and expert_of(module.name) is not None:
            why = "0.24 refuses 8-bit experts with a scale a row"
        else:
            continue
        yield Hit(module.name, why, todo)
        return


def dense_qwen(checkpoint: Checkpoint) -> Iterator[Hit]:
    view = view_of(checkpoint)
    if view.says.method == "modelopt" and checkpoint.config.get("model_type") in ("qwen2", "qwen3"):
        for module in view.modules.values():
            if not {"k_scale", "v_scale"}.isdisjoint(module.parts) and module.name.endswith("_proj"):
                why = "cache scales lie in a projection of a dense Qwen model: 0.24 raises, 0.32 takes them"
                yield Hit(module.name, why, "take 0.32 or newer, or write compressed-tensors")
                return


def experts_decoded(checkpoint: Checkpoint) -> Iterator[Hit]:
    """transformers 5.23 stacks experts by a decoder of its own, which knows less than that of layers."""
    view = view_of(checkpoint)
    experts = [module for module in view.modules.values() if expert_of(module.name) is not None]
    if view.says.method != "compressed-tensors" or not view.says.groups or not experts:
        return
    from mtopt_hf.checkpoint.together import layers_of_their_own

    place = expert_of(experts[0].name)
    if place is not None and asked(layers_of_their_own, checkpoint.config, place[0], otherwise=False):
        return
    group = _of_experts(view.says.groups)
    by = f"it decodes all experts as {group.name} says, {group.scheme.kind}"
    todo = "give all experts one of these formats, or take another client"
    if group.scheme.kind == "fp8" and group.scheme.weights.get("strategy") != "block":
        wrong = [module for module in experts if module.stored_quantized and module.scheme != group.scheme]
        if wrong:
            yield Hit(wrong[0].name, f"{by}; this one is in another format, and gets wrong values", todo)
        return
    coded = [module for module in experts if module.stored_quantized]
    if len(coded) < len(experts):
        left = next(module for module in experts if not module.stored_quantized)
        yield Hit(left.name, f"{by}; it looks for their codes, and raises for this one, which is in floats", todo)
    elif group.scheme.kind in ("pack", "mxfp4", "mxfp6") and group.scheme.weights.get("symmetric") is not False:
        wrong = [module for module in coded if module.scheme != group.scheme]
        if wrong:
            yield Hit(wrong[0].name, f"{by}; this one is in another format: it raises, or gets wrong values", todo)
    else:
        known = "it decodes experts in FP8 by tensor or channel, MXFP4, MXFP6 and symmetric integers"
        then = "raises" if group.scheme.kind != "nvfp4" else "leaves out their outer scales without an error"
        yield Hit(coded[0].name, f"{known}; of these, in {group.scheme.kind}, it {then}", todo)


def experts_together(checkpoint: Checkpoint) -> Iterator[Hit]:
    """transformers 5.23 warns of weights that it misses, and goes on with random ones."""
    view = view_of(checkpoint)
    if view.says.method != "compressed-tensors":
        return
    from mtopt_hf.checkpoint.together import kept_together

    modules = dict.fromkeys(found[0] for name in view.modules if (found := expert_of(name)) is not None)
    for module in modules:
        if asked(kept_together, checkpoint.config, module, otherwise=False):
            why = "it looks for these experts in one tensor, not one by one, and goes on with random values"
            yield Hit(module, why, "open it by way of mtopt_hf.quantizer, or take another client")
        return  # the experts of other layers are like those of the first


def zero_points(checkpoint: Checkpoint) -> Iterator[Hit]:
    """transformers 5.23 makes room for zero points as they are before packing, and does not fit packed ones in."""
    for group in view_of(checkpoint).says.groups:
        if group.scheme.kind == "pack" and group.scheme.weights.get("symmetric") is False:
            why = "its zero points are packed, where it expects them unpacked: from_pretrained raises"
            yield Hit(f"config.json: {group.name}", why, f"load it with {DECODED_AT_ONCE}, which decodes it right")


def _of_experts(groups: Sequence[Group]) -> Group:
    """The group by which transformers decodes experts: one with a pattern for them, else one by class or name."""
    pattern = (one for one in groups if any(t.startswith("re:") and "experts" in t for t in one.targets))
    plain = (one for one in groups if any(not t.startswith("re:") for t in one.targets))
    return next(pattern, None) or next(plain, groups[0])


RULES = (
    RuleSpec(
        "experts-decoded", "experts have one format that is decoded", {"transformers": "error"}, experts_decoded
    ),
    RuleSpec(
        "experts-together", "experts lie as the architecture has them", {"transformers": "error"}, experts_together
    ),
    RuleSpec("zero-points", "weights have no zero points", {"transformers": "warning"}, zero_points),
    RuleSpec("fused-block", "joined FP8 layers begin and end with a block", {"vllm": "error"}, blocks),
    RuleSpec("blocks-both", "weights alone are rounded where that is meant", {"vllm": "note"}, inputs_rounded_too),
    RuleSpec("channel-experts", "experts have no scale a channel in modelopt", {"vllm": "error"}, channel_experts),
    RuleSpec("w4a8-experts", "experts in W4A8 have the sizes of its kernel", {"vllm": "error"}, w4a8_experts),
    RuleSpec("older-vllm", "versions before 0.32 run it too", {"vllm": "note"}, older),
    RuleSpec(
        "kv-dense-qwen", "dense Qwen models hold no cache scale in a projection", {"vllm": "note"}, dense_qwen
    ),
)

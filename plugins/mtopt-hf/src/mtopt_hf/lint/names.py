"""What names of tensors and modules mean to clients: parts of a layer, layers that a server fuses, roles."""

from __future__ import annotations

import re

PARTS = frozenset(
    {
        "weight",
        "weight_packed",
        "weight_scale",
        "weight_scale_2",
        "weight_scale_inv",
        "weight_global_scale",
        "weight_shape",
        "weight_zero_point",
        "weight_g_idx",
        "input_scale",
        "input_global_scale",
        "input_zero_point",
        "output_scale",
        "pre_quant_scale",
        "svdquant_lora_a",
        "svdquant_lora_b",
        "blocks",
        "qweight",
        "qzeros",
        "scales",
        "g_idx",
        "bias",
        "k_scale",
        "v_scale",
        "q_scale",
        "k_bias",
        "v_bias",
    }
)
"""Local names of the tensors that belong to a layer."""

SCALES = frozenset(
    {
        "weight_scale",
        "weight_scale_2",
        "weight_scale_inv",
        "weight_global_scale",
        "input_scale",
        "input_global_scale",
        "output_scale",
        "pre_quant_scale",
        "scales",
        "k_scale",
        "v_scale",
        "q_scale",
    }
)
"""Those of them that hold scales."""

QUANTIZED_BY = SCALES - {"k_scale", "v_scale", "q_scale", "input_scale", "output_scale"} | {
    "blocks",
    "weight_packed",
    "qweight",
}
"""Parts whose presence says that the weight is quantized."""

FUSED = (
    ("q_proj", "k_proj", "v_proj"),
    ("gate_proj", "up_proj"),
    ("w1", "w3"),
    ("q_a_proj", "kv_a_proj_with_mqa"),
)
"""Layers beside each other that servers join into one matrix."""

FUSED_NAMES = {
    "qkv_proj": FUSED[0],
    "gate_up_proj": FUSED[1],
    "w13": FUSED[2],
    "fused_qkv_a_proj_with_mqa": FUSED[3],
}
"""What vLLM calls the joined layers → their parts."""

_EMBEDDING = re.compile(r"(^|\.)(embed\w*|\w*embeddings?|\w*embedding\w*|wte|wpe|shared|embed_tokens\w*)$")
_ROUTER = re.compile(r"(^|\.)(gate|router|router\.\w+|shared_expert_gate|gate_fn)$")
_HEAD = re.compile(r"(^|\.)(lm_head(\.decoder)?|predictions\.decoder|embed_out|output_layer|score)$|^proj_out$")
_CROSS = re.compile(r"(^|\.)(encoder_attn|EncDecAttention|\w*cross_?att\w*)$", re.IGNORECASE)
_NORM = re.compile(r"norm|(^|\.)ln_\w+$|layer_?norm", re.IGNORECASE)
_EXPERT = re.compile(r"^(.*\bexperts)\.(\d+)\.(.+)$")


def is_embedding(module: str) -> bool:
    """
    Example:
        >>> is_embedding("model.embed_tokens"), is_embedding("model.layers.0.mlp.up_proj")
        (True, False)
    """
    return bool(_EMBEDDING.search(module))


def is_router(module: str) -> bool:
    """
    Example:
        >>> is_router("model.layers.0.mlp.gate"), is_router("model.layers.0.mlp.gate_proj")
        (True, False)
    """
    return bool(_ROUTER.search(module))


def is_head(module: str) -> bool:
    return bool(_HEAD.search(module))


def is_of_experts(module: str) -> bool:
    """
    Example:
        >>> is_of_experts("model.layers.0.mlp.experts.gate_up_proj"), is_of_experts("model.layers.0.mlp.router")
        (True, False)
    """
    return "experts" in module.split(".")


def stacked_part(tensor: str) -> tuple[str, str] | None:
    """(the stacked weight, "blocks" or "scales") for a tensor of gpt-oss's experts, or None.

    Example:
        >>> stacked_part("0.mlp.experts.down_proj_blocks"), stacked_part("0.mlp.experts.down_proj_bias")
        (('0.mlp.experts.down_proj', 'blocks'), None)
    """
    weight, _, part = tensor.rpartition("_")
    return (weight, part) if part in ("blocks", "scales") and is_of_experts(weight) else None


def joined_in(parent: str) -> tuple[tuple[str, ...], ...]:
    """`FUSED` for the layers of one module: queries of a cross attention read another value, and stay alone.

    Example:
        >>> joined_in("model.decoder.layers.0.encoder_attn")[0], joined_in("model.layers.0.self_attn")[0]
        (('k_proj', 'v_proj'), ('q_proj', 'k_proj', 'v_proj'))
    """
    return (FUSED[0][1:], *FUSED[1:]) if _CROSS.search(parent) else FUSED


def is_norm(module: str) -> bool:
    return bool(_NORM.search(module))


def expert_of(module: str) -> tuple[str, int, str] | None:
    """(where the experts are, which one, its layer), or None.

    Example:
        >>> expert_of("model.layers.0.mlp.experts.12.up_proj")
        ('model.layers.0.mlp.experts', 12, 'up_proj')
    """
    found = _EXPERT.match(module)
    return (found[1], int(found[2]), found[3]) if found and len(found[2]) < 9 else None

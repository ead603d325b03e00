"""Tiny instances of any transformers architecture: its config class, made small field by field."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from forward_inputs import example_inputs
from overrides import OVERRIDES, VOCABULARY
from randomise import randomise
from torch import nn
from transformers.models.auto import modeling_auto as auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

WIDTH, IMAGE = 32, 32

KINDS = {
    "causal_lm": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "encoder": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "seq2seq": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "vision": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "detection": "MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES",
    "speech": "MODEL_FOR_CTC_MAPPING_NAMES",
}

# Field names (full match) and their small value; the first match wins.
SIZES: list[tuple[str, int]] = [
    (
        r"(unpadded_|decoder_|encoder_|text_)?vocab_size(_per_layer_input)?|audio_vocab_size|max_vocab_size",
        VOCABULARY,
    ),
    (r"num_attention_heads|n_heads?|num_heads|attention_heads|(en|de)coder_attention_heads|heads", 4),
    (
        r"num_(en|de)coder_attention_heads|swa_num_attention_heads|linear_num_heads|num_query_groups|index_n_heads",
        4,
    ),
    (r"num_key_value_heads|num_kv_heads|swa_num_key_value_heads|n_head_kv|num_key_value_groups_", 2),
    (r"linear_num_(key|value)_heads", 2),
    (
        r"head_dim|d_head|d_kv|dim_head|attention_head_size|kv_channels|swa_head_dim|global_head_dim|query_pre_attn_scalar",
        8,
    ),
    (r"linear_(key_|value_)?head_dim|index_head_dim|v_head_dim|attention_head_dim|d_rel", 8),
    (r"qk_rope_head_dim|qk_nope_head_dim|rotary_dim", 4),
    (r"qk_head_dim", 8),
    (
        r"q_lora_rank|kv_lora_rank|o_lora_rank|hc_lowrank|gated_norm_rank|adapter_rank|laurel_rank|router_hidden_size",
        8,
    ),
    (r"num_experts|n_routed_experts|num_local_experts|moe_num_experts|num_routed_experts", 4),
    (r"num_experts_per_tok(en)?|moe_topk|top_k_experts|moe_k|num_selected_experts", 2),
    (r"n_group|topk_group|num_expert_group", 1),
    (r"zero_expert_num", 2),
    (r"hidden_size_per_layer_input", 8),
    (r"(vision_|text_|moe_)?hidden_size|n_embd|d_model|dim_model|emb_dim|embed(ding)?_dim|embedding_size", WIDTH),
    (r"(out|input|output|backbone|attention|adapter)_hidden_size|word_embed_proj_dim|hidden_dim|lru_width", WIDTH),
    (
        r"(input|output)_embedding_size|projection_dim|hidden_size_global|projector_(in|out)put_dim|width|d_embed",
        WIDTH,
    ),
    (r"(shared_|moe_|dense_|expert_)?(expert_)?intermediate_size(_mlp)?|expert_ffn_hidden_size", 2 * WIDTH),
    (r"(shared_experts?_|moe_shared_expert_)intermediate_size|shared_intermediate_size", 2 * WIDTH),
    (
        r"(en|de)coder_ffn_dim|ffn_dim|ffn_hidden_size|d_ff|dim_ff|dff|d_inner|feed_forward_size|n_inner|mlp_dim",
        2 * WIDTH,
    ),
    (r"dim_feedforward|intermediate_dim|prompt_mid_dim", 2 * WIDTH),
    (r"num_hidden_layers|n_layers?|num_layers|(en|de)coder_layers|num_(en|de)coder_layers|depth|num_blocks", 2),
    (r"num_layers_per_stack|num_block_layers|num_stages_layers", 2),
    (r"sliding_window(_size)?|attention_window_size|local_attention(_window_len)?|attention_chunk_size", 8),
    (r"index_topk", 4),
    (r"mamba_d_state|state_size|ssm_state_size", 8),
    (r"mamba_n_heads|mamba_num_heads", 8),
    (r"mamba_d_head|mamba_head_dim|mamba_headdim", 8),
    (r"mamba_d_ssm", 64),
    (r"mamba_chunk_size|chunk_size", 4),
    (r"time_step_rank|mamba_dt_rank", 4),
    (r"max_position_embeddings|n_positions|n_ctx|max_seq_len|max_target_positions|max_source_positions", 128),
    (r"model_max_length|context_length", 128),
    (r"original_max_position_embeddings", 64),
    (r"image_size|crop_size", IMAGE),
    (r"num_queries|num_detection_tokens", 8),
    (r"audio_hidden_size|encoder_hidden_dim", WIDTH),
    (r"classifier_proj_size|(decoder_)?subsampling_conv_channels|num_denoising", WIDTH),
    (r"codebook_size|block_multiple_of", 32),
    (r"num_filters", 4),
]
DEPTHS = r"depths?|layer_depths|stage_num_blocks|layers"
WIDTHS = r"(encoder_)?hidden_sizes|widths|embed_dims|embedding_sizes|conv_dim"
TOKEN_IDS = {
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "sep_token_id": 3,
}


@dataclass(frozen=True)
class Architecture:
    """A model class of a transformers mapping and how to make a small one."""

    kind: str
    name: str
    class_name: str

    def config(self) -> Any:
        cls = getattr(transformers, self.class_name)
        overrides = OVERRIDES.get(f"{self.kind}/{self.name}", OVERRIDES.get(self.name, {}))
        return shrink(getattr(cls, "config_class", None) or CONFIG_MAPPING[self.name], overrides)

    def build(self, **kwargs: Any) -> nn.Module:
        torch.manual_seed(0)
        config = self.config()
        cls = getattr(transformers, self.class_name)
        model = cls._from_config(config, **kwargs) if hasattr(cls, "_from_config") else cls(config)
        return randomise(model).eval()

    def inputs(self, model: nn.Module) -> dict[str, Any]:
        """Keyword arguments of one forward."""
        return example_inputs(self.kind, self.name, model)


def architectures(kinds: tuple[str, ...] = tuple(KINDS)) -> Iterator[Architecture]:
    """Every name of the mappings; a name with several classes gives its first one."""
    for kind in kinds:
        for name, class_name in getattr(auto, KINDS[kind]).items():
            yield Architecture(kind, name, class_name if isinstance(class_name, str) else class_name[0])


def shrink(config_class: type, overrides: dict[str, Any]) -> Any:
    """The default config with small sizes; per-layer lists keep one layer of each sort."""
    return config_class(**_small(_defaults(config_class, overrides), overrides))


def _defaults(config_class: type, overrides: dict[str, Any]) -> dict[str, Any]:
    try:
        config = config_class()
    except Exception:  # noqa: BLE001  some defaults contradict themselves; the overrides then have to do
        config = config_class(**overrides)
    fields = dict(config.to_dict())
    for name in getattr(config, "sub_configs", None) or {}:
        sub = getattr(config, name, None)
        if sub is not None and hasattr(sub, "to_dict"):
            fields[name] = dict(sub.to_dict())
    return fields


def _small(fields: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    layers = next((fields[k] for k in ("num_hidden_layers", "n_layer", "num_layers") if k in fields), None)
    per_layer = {
        k: v for k, v in fields.items() if isinstance(v, list) and layers and len(v) == layers and layers > 4
    }
    keep = _one_of_each(list(per_layer.values()), layers) if per_layer else []
    for name, value in fields.items():
        if name in per_layer:
            out[name] = [_number(name.removesuffix("_per_layer"), v) for v in (value[i] for i in keep)]
        elif isinstance(value, dict) and ("hidden_size" in value or "model_type" in value):
            own = overrides.get(name, {}) if isinstance(overrides.get(name), dict) else {}
            out[name] = {**_said_by_parent(value), **_small(value, own)}
        elif name in TOKEN_IDS or (name.endswith(("_token_id", "_token_index")) and isinstance(value, int)):
            out[name] = TOKEN_IDS.get(name, 100 + len(out) % 20) if value is not None else None
        elif re.fullmatch(DEPTHS, name) and _whole_numbers(value):
            out[name] = [1] * len(value)
        elif re.fullmatch(WIDTHS, name) and _whole_numbers(value):
            out[name] = _narrower(value)
        elif name == "use_mamba_kernels":
            out[name] = False
        elif type(value) is int:
            small = _number(name, value)
            if small != value:
                out[name] = small
    if fields.get("num_key_value_heads") is not None:
        heads = next((fields[k] for k in ("num_attention_heads", "n_heads", "n_head") if fields.get(k)), 0)
        if fields["num_key_value_heads"] == heads:
            out["num_key_value_heads"] = 4
    if "qk_rope_head_dim" in fields and fields.get("head_dim") == fields["qk_rope_head_dim"]:
        out["head_dim"] = 4
    for name, value in (("head_dim", 8), ("num_experts_per_tok", 2)):
        if name in fields and fields[name] is None:
            out[name] = value
    if keep:
        for name in ("num_hidden_layers", "n_layer", "num_layers"):
            if name in fields:
                out[name] = len(keep)
    return {**out, **{k: v for k, v in overrides.items() if not isinstance(v, dict) or k not in out}}


def _said_by_parent(value: dict[str, Any]) -> dict[str, Any]:
    """What a nested config says besides its own class's defaults: sizes, names, flags, chosen stages."""
    kind = value.get("model_type")
    if kind not in CONFIG_MAPPING:
        return {"model_type": kind} if kind else {}
    usual = CONFIG_MAPPING[kind]().to_dict()
    said = {k: v for k, v in value.items() if v != usual.get(k) and (type(v) in (str, bool, int) or _words(v))}
    return {**{k: _number(k, v) for k, v in said.items()}, "model_type": kind}


def _words(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(type(v) in (str, bool) for v in value)


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 1 and all(type(v) is int for v in value)


def _narrower(widths: Sequence[int]) -> list[int]:
    """Widths of stages halved together while the narrowest keeps 16 channels and all stay multiples of 8."""
    small = list(widths)
    while min(small) >= 32 and all(n % 16 == 0 for n in small):
        small = [n // 2 for n in small]
    return small


def _number(name: str, value: Any) -> Any:
    if type(value) is not int or value <= 0:
        return value
    return next((small if value > 1 else value for pattern, small in SIZES if re.fullmatch(pattern, name)), value)


def _one_of_each(lists: list[list[Any]], count: int) -> list[int]:
    """The first layer of each sort, at most four, at least two."""
    seen: dict[str, int] = {}
    for i in range(count):
        seen.setdefault(repr([values[i] for values in lists]), i)
    keep = sorted(seen.values())[:4]
    return keep if len(keep) > 1 else [0, 1]

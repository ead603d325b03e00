"""What the generic shrinking cannot know: sizes by architecture, where its defaults contradict each other."""

from __future__ import annotations

from typing import Any

VOCABULARY = 128

QSA = {
    "indexer_budget": 8,
    "indexer_compress_ratio": 2,
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
}
CONV_ATTENTION = {"layer_types": ["conv", "full_attention"]}
ROPE_BY_SORT = {k: {"rope_type": "default", "rope_theta": 1e4} for k in ("sliding_attention", "full_attention")}
ZAMBA = {
    "layers_block_type": ["linear_attention", "hybrid"] * 2,
    "num_hidden_layers": 4,
    "attention_hidden_size": 64,
    "attention_head_dim": 16,
}
REFORMER = {
    "axial_pos_shape": [4, 32],
    "axial_pos_embds_dim": [16, 16],
    "attn_layers": ["local", "local"],
    "local_attn_chunk_length": 4,
}
HGNET = {
    "stem_channels": [3, 16, 24],
    "stage_in_channels": [24, 32, 48, 64],
    "stage_mid_channels": [16, 16, 24, 24],
    "stage_out_channels": [32, 48, 64, 96],
    "stage_numb_of_layers": [2, 2, 2, 2],
    "hidden_sizes": [32, 48, 64, 96],
    "embedding_size": 24,
}
LEVELS = {"encoder_in_channels": [48, 64, 96], "decoder_in_channels": [32, 32, 32]}
HGNET_DETECTOR = {"backbone_config": HGNET, **LEVELS}
RESNET_DETECTOR = {"backbone_config": {"hidden_sizes": [32, 48, 64, 96], "embedding_size": 32}, **LEVELS}
TIMM_BACKBONE = {"backbone_config": {"backbone": "resnet10t"}}
SWIN = {"embed_dim": 24, "image_size": 64, "window_size": 2, "depths": [2, 1, 1, 1], "num_heads": [2, 2, 4, 4]}
LCNET = {
    "block_configs": [
        [[3, 24, 24, 1, True]],
        [[3, 24, 24, 2, False]],
        [[3, 24, 48, 2, False], [3, 48, 48, 1, True]],
        [[3, 48, 96, 2, False]],
    ],
    "stem_channels": [3, 12, 24],
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
LINES = {
    "reduce_channel": [1, 1, 0],
    "return_channel": [1, 1, 0],
    **{
        f"{name}_{size}ratio": [kernel, [1, 1], [k // 2 for k in kernel]]
        for size, n in (("long", 7), ("mid", 5), ("short", 3))
        for name, kernel in (
            ("vertical_long_to_small_conv", [n, 1]),
            ("horizontal_small_to_long_conv", [1, n]),
            ("symmetric_conv_long", [n, n]),
        )
    },
}
TEXT_LINES = {
    "intraclass_block_config": LINES,
    "kernel_list": [3, 2, 2],
    "scale_factor_list": [1, 2, 4, 8],
    "neck_out_channels": 32,
}

OVERRIDES: dict[str, dict[str, Any]] = {
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 2},
    "reformer": {"is_decoder": True, "lsh_attn_chunk_length": 4, **REFORMER},
    "encoder/reformer": {"is_decoder": False, **REFORMER},
    "neomme": {"head_dim": 16},
    "xmod": {"default_language": "en_XX"},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "gemma3n": {
        "text_config": {"num_kv_shared_layers": 0},
        "vision_config": {"architecture": "mobilenetv3_small_050"},
    },
    "blt": {"encoder_hash_byte_group_vocab": 64},
    "lfm2_moe": CONV_ATTENTION,
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": ROPE_BY_SORT,
    },
    "zamba": ZAMBA,
    "zamba2": {**ZAMBA, "hybrid_layer_ids": [1, 3], "n_mamba_heads": 8, "mamba_headdim": 8, "mamba_ngroups": 1},
    "nemotron": {"num_key_value_heads": 2},
    "qwen4_exp": QSA,
    "qwen4_exp_text": QSA,
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 32},
    },
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1},
    "esm": {"vocab_size": VOCABULARY, "pad_token_id": 0, "mask_token_id": 3},
    # vision
    "bit": {"embedding_size": 32, "hidden_sizes": [128, 128, 128, 128]},
    "cvt": {"embed_dim": [16, 24, 48], "depth": [1, 2, 3], "num_heads": [1, 3, 6]},
    "donut-swin": SWIN,
    "efficientnet": {"width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320, "image_size": 64},
    "hgnet_v2": HGNET,
    "mobilevitv2": {"image_size": 64},
    "perceiver": {"num_latents": 8, "d_latents": 32, "d_model": 32, "num_self_attends_per_block": 2},
    "shieldgemma2": {
        "yes_token_index": 5,
        "no_token_index": 6,
        "mm_tokens_per_image": 4,
        "vision_config": {"image_size": 64},
    },
    "siglip2": {"vision_config": {"num_patches": 16}},
    "swin": SWIN,
    "swinv2": SWIN,
    "textnet": {
        "image_size": [64, 64],
        "stem_out_channels": 16,
        "hidden_sizes": [16, 16, 24, 32, 48],
        "conv_layer_kernel_sizes": [[[3, 3]], [[3, 3], [1, 3]], [[3, 3], [3, 1]], [[3, 3], [1, 3]]],
        "conv_layer_strides": [[1], [2, 1], [2, 1], [2, 1]],
    },
    "timm_wrapper": {"architecture": "resnet10t"},
    # detection
    **dict.fromkeys(("conditional_detr", "dab-detr", "detr", "table-transformer"), TIMM_BACKBONE),
    "deformable_detr": TIMM_BACKBONE,
    **dict.fromkeys(("d_fine", "deimv2", "pp_doclayout_v4"), HGNET_DETECTOR),
    "pp_doclayout_v2": {**HGNET_DETECTOR, "class_thresholds": [0.5] * 25, "class_order": list(range(25))},
    "pp_doclayout_v3": {**HGNET_DETECTOR, "x4_feat_dim": 32},
    **dict.fromkeys(("rt_detr", "rt_detr_v2"), RESNET_DETECTOR),
    "lw_detr": {
        "backbone_config": {
            "num_hidden_layers": 4,
            "image_size": 64,
            "num_windows": 4,
            "window_block_indices": [0, 2],
            "out_features": ["stage2", "stage4"],
        },
        "projector_scale_factors": [1.0],
    },
    "rf_detr": {
        "backbone_config": {
            "num_hidden_layers": 4,
            "image_size": 56,
            "num_windows": 2,
            "window_block_indexes": [0, 2],
            "out_features": ["stage2", "stage4"],
        },
    },
    "pp_ocrv5_server_det": {"backbone_config": HGNET, **TEXT_LINES},
    "pp_ocrv6_medium_det": {"backbone_config": LCNET, **TEXT_LINES},
    "pp_ocrv6_small_det": {
        "backbone_config": LCNET,
        "layer_list_out_channels": [24, 24, 48, 96],
        "neck_out_channels": 24,
    },
    "yolos": {"image_size": [64, 64]},
    # speech
    "wav2vec2-bert": {"vocab_size": VOCABULARY},
    "wav2vec2-conformer": {"vocab_size": VOCABULARY},
}

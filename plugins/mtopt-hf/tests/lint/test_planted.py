"""One planted fault for every rule, in a checkpoint that a peer wrote: the rule finds it, and nothing before."""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from mtcore.lint import INDEX, SINGLE

NAN, INFINITE = float("nan"), float("inf")
ATTENTION = "model.layers.0.self_attn"
MLP = "model.layers.0.mlp"


@dataclass(frozen=True)
class Planted:
    """A fault: in whose checkpoint, how a draft is spoilt, how written files are, and for which client."""

    peer: str
    spoil: Callable = lambda draft: None
    damage: Callable = lambda folder: None
    client: str = "vllm"
    shards: int = 1


def drop(*endings):
    def spoil(draft):
        for ending in endings:
            del draft.tensors[draft.first(ending)]

    return spoil


def change(file="config.json", **values):
    def spoil(draft):
        target = draft.json[file] if file == "config.json" else draft.json[file]["quantization"]
        target.update(values)

    return spoil


def quantization(**values):
    return lambda draft: draft.quantization.update(values)


def weights(**values):
    return lambda draft: draft.group["weights"].update(values)


def value(ending, number):
    return lambda draft: draft.put_f32(ending, number)


def stored_in_floats(*modules):
    """The layers lose their codes and scales and get a plain weight."""

    def spoil(draft):
        for module in modules:
            for name in [name for name in draft.tensors if name.startswith(f"{module}.")]:
                del draft.tensors[name]
            draft.put(f"{module}.weight", "BF16", [64, 128])

    return spoil


def rename(old, new):
    def spoil(draft):
        draft.tensors = {name.replace(old, new): entry for name, entry in draft.tensors.items()}

    return spoil


def in_code(module, like):
    """A module becomes quantized with the tensors of another."""

    def spoil(draft):
        draft.tensors.pop(f"{module}.weight", None)
        for name in [name for name in draft.tensors if name.startswith(f"{like}.")]:
            draft.tensors[name.replace(like, module)] = list(draft.tensors[name])

    return spoil


def several(*spoils):
    def spoil(draft):
        for one in spoils:
            one(draft)

    return spoil


def patch(name, old, new):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes().replace(old, new))


def shorten(folder):
    content = (folder / SINGLE).read_bytes()
    (folder / SINGLE).write_bytes(content[:-10])


def claim(length):
    return lambda folder: (folder / SINGLE).write_bytes(
        struct.pack("<Q", length) + (folder / SINGLE).read_bytes()[8:]
    )


def index(changes):
    def damage(folder):
        content = json.loads((folder / INDEX).read_text())
        changes(content["weight_map"])
        (folder / INDEX).write_text(json.dumps(content))

    return damage


def link_away(folder):
    elsewhere = folder.parent / "elsewhere.safetensors"
    (folder / SINGLE).rename(elsewhere)
    (folder / SINGLE).symlink_to(elsewhere)


def twice(folder):
    """The second shard becomes a copy of the first, names included."""
    first, second = sorted(folder.glob("*.safetensors"))[:2]
    second.write_bytes(first.read_bytes())


def first_weight_map_entry(target):
    return index(lambda weight_map: weight_map.update({next(iter(weight_map)): target}))


KV = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False, "symmetric": True}

PLANTED = {
    # files
    "weights-missing": Planted("lc-nvfp4", damage=lambda folder: (folder / SINGLE).unlink()),
    "weights-pickle": Planted("lc-nvfp4", damage=lambda folder: (folder / SINGLE).rename(folder / "model.bin")),
    "file-missing": Planted(
        "lc-nvfp4", damage=lambda folder: sorted(folder.glob("*.safetensors"))[0].unlink(), shards=2
    ),
    "file-truncated": Planted("lc-nvfp4", damage=shorten),
    "header-too-large": Planted("lc-nvfp4", damage=claim(10**12)),
    "header-damaged": Planted("lc-nvfp4", damage=patch(SINGLE, b'"dtype"', b'"dty\xffe"')),
    "dtype-unknown": Planted("lc-nvfp4", damage=patch(SINGLE, b'"BF16"', b'"BF61"')),
    "tensor-offsets": Planted("lc-nvfp4", damage=patch(SINGLE, b'"shape": [128]', b'"shape": [129]')),
    "tensor-duplicate": Planted("lc-nvfp4", damage=twice, shards=2),
    "index-wrong": Planted("lc-nvfp4", damage=first_weight_map_entry("model-00002-of-00002.safetensors"), shards=2),
    "index-incomplete": Planted("lc-nvfp4", damage=index(lambda known: known.pop(next(iter(known)))), shards=2),
    "path-outside": Planted("lc-nvfp4", damage=first_weight_map_entry("../../etc/passwd"), shards=2),
    "link-outside": Planted("lc-nvfp4", damage=link_away),
    "json-unreadable": Planted(
        "lc-nvfp4", damage=lambda folder: (folder / "config.json").write_text("[" * 100_000)
    ),
    "shards-left-over": Planted(
        "lc-nvfp4", damage=lambda folder: (folder / "old.safetensors").write_bytes((folder / SINGLE).read_bytes())
    ),
    # what the JSON files say
    "config-missing": Planted("lc-nvfp4", damage=lambda folder: (folder / "config.json").unlink()),
    "undeclared": Planted("lc-nvfp4", lambda draft: draft.config.pop("quantization_config")),
    "nothing-quantized": Planted(
        "hf-llama", lambda draft: draft.config.update(quantization_config={"quant_method": "fp8"})
    ),
    "method-unknown": Planted(
        "hf-llama", lambda draft: draft.config.update(quantization_config={"quant_method": "x"})
    ),
    "modelopt-silent": Planted("mo-fp8", client="transformers"),
    "client-refuses": Planted("mo-int4-awq"),
    "client-unverified": Planted("lc-w4a16", weights(num_bits=3)),
    "algo-missing": Planted("mo-fp8", lambda draft: draft.quantization.pop("quant_algo")),
    "nested-form": Planted(
        "mo-nvfp4",
        several(
            lambda draft: draft.json["hf_quant_config.json"]["quantization"].pop("exclude_modules"),
            lambda draft: draft.config.pop("quantization_config"),
        ),
    ),
    "two-files": Planted("mo-nvfp4", change("hf_quant_config.json", kv_cache_quant_algo="FP8")),
    "flat-group-size": Planted("mo-nvfp4", lambda draft: draft.json.pop("hf_quant_config.json"), client="trtllm"),
    "mixed-layers": Planted("mo-fp8", quantization(quant_algo="MIXED_PRECISION")),
    "mixed-unlisted": Planted(
        "mo-fp8",
        quantization(quant_algo="MIXED_PRECISION", quantized_layers={f"{MLP}.up_proj": {"quant_algo": "FP8"}}),
    ),
    "format-word": Planted("lc-nvfp4", lambda draft: draft.group.update(format="float-quantized")),
    "scheme-unknown": Planted("lc-nvfp4", weights(num_bits=3)),
    "scheme-arguments": Planted("lc-nvfp4", weights(group_size=32)),
    "scale-dtype": Planted("lc-mxfp8", weights(scale_dtype=None)),
    "regex": Planted("lc-nvfp4", quantization(ignore=["lm_head", "re:("])),
    "target-unmatched": Planted("lc-nvfp4", lambda draft: draft.group.update(targets=["Linear", "layers.0"])),
    "target-missing": Planted("lc-nvfp4", lambda draft: draft.group.update(targets=["re:.*self_attn"])),
    "status": Planted("lc-nvfp4", quantization(quantization_status="frozen"), client="transformers"),
    "bf16-only": Planted("lc-nvfp4", change(dtype="float32"), client="transformers"),
    # the list of modules left alone
    "ignore-quantized": Planted("lc-nvfp4", quantization(ignore=["lm_head", f"{MLP}.down_proj"])),
    "ignore-too-wide": Planted("mo-nvfp4", quantization(ignore=["lm_head", "mlp.gate"])),
    "ignore-missing": Planted("lc-nvfp4", stored_in_floats(f"{ATTENTION}.o_proj")),
    "ignore-unmatched": Planted("lc-nvfp4", quantization(ignore=["lm_head", "model.layers.0.mlp.up"])),
    "ignore-regex": Planted("mo-nvfp4", quantization(ignore=["lm_head", "re:.*head"])),
    "ignore-glob": Planted("lc-nvfp4", quantization(ignore=["lm_head", "*head"])),
    "fused-half": Planted("lc-nvfp4", stored_in_floats(f"{ATTENTION}.k_proj")),
    # tensors
    "tensor-missing": Planted("mo-nvfp4", drop("up_proj.weight_scale_2")),
    "tensor-extra": Planted("lc-fp8-dynamic", lambda draft: draft.put(f"{MLP}.up_proj.input_scale", "F32", [1])),
    "pre-quant-scale": Planted(
        "mo-nvfp4", lambda draft: draft.put(f"{MLP}.up_proj.pre_quant_scale", "BF16", [128])
    ),
    "dtype": Planted("mo-nvfp4", lambda draft: draft.put(f"{MLP}.up_proj.weight_scale", "U8", [256, 8])),
    "shape": Planted("lc-fp8-dynamic", lambda draft: draft.put(f"{MLP}.up_proj.weight_scale", "F32", [128, 1])),
    "weight-shape": Planted(
        "lc-w4a16", lambda draft: draft.put(f"{MLP}.up_proj.weight_shape", "I64", [2], struct.pack("<qq", 256, 64))
    ),
    "block-size": Planted("mo-nvfp4", lambda draft: draft.put(f"{MLP}.up_proj.weight", "U8", [256, 60])),
    "kernel-size": Planted(
        "lc-fp8-dynamic", lambda draft: draft.put(f"{MLP}.up_proj.weight", "F8_E4M3", [250, 128])
    ),
    "word-size": Planted("hf-llama", lambda draft: gptq(draft, 132)),
    "weight-lost": Planted("mo-nvfp4", rename("up_proj.weight_scale_2", "up.weight_scale_2")),
    # values of scales
    "scale-nan": Planted("mo-nvfp4", value("up_proj.weight_scale_2", NAN)),
    "scale-infinite": Planted("mo-nvfp4", value("up_proj.input_scale", INFINITE)),
    "scale-zero": Planted("mo-nvfp4", value("up_proj.input_scale", 0.0)),
    "scale-zero-block": Planted("lc-nvfp4", lambda draft: zero_byte(draft, "up_proj.weight_scale")),
    "scale-negative": Planted("lc-nvfp4", value("up_proj.weight_global_scale", -5.0)),
    "scale-absurd": Planted("mo-nvfp4", value("up_proj.input_scale", 1e20)),
    "scale-empty": Planted("mo-nvfp4", lambda draft: draft.put(f"{MLP}.up_proj.weight_scale", "F8_E4M3", [0])),
    "scale-uncalibrated": Planted("mo-nvfp4", value("down_proj.input_scale", 1.0)),
    "scale-reciprocal": Planted("mo-nvfp4", value("down_proj.weight_scale_2", 20000.0)),
    "scale-pair": Planted("mo-nvfp4", lambda draft: low_scales(draft, "down_proj.weight_scale")),
    "small-tensor-nan": Planted(
        "lc-nvfp4", lambda draft: draft.put("model.norm.weight", "BF16", [128], b"\xff\x7f" * 128)
    ),
    # layers that a server joins
    "fused-outer-scale": Planted("mo-nvfp4", value("k_proj.weight_scale_2", 0.001)),
    "expert-outer-scale": Planted("mo-nvfp4-moe", value("experts.0.up_proj.weight_scale_2", 0.001)),
    "fused-input-scale": Planted("mo-nvfp4", value("k_proj.input_scale", 0.001)),
    "fused-fp8-scale": Planted("lc-nvfp4", lambda draft: per_tensor_fp8(draft)),
    "fused-format": Planted("mo-fp8", lambda draft: mixed(draft)),
    # KV cache
    "kv-missing": Planted("lc-nvfp4", quantization(kv_cache_scheme=KV)),
    "kv-half": Planted("lc-fp8-kv", drop("self_attn.v_scale")),
    "kv-undeclared": Planted("lc-fp8-kv", quantization(kv_cache_scheme=None)),
    "kv-words": Planted("lc-fp8-kv", quantization(kv_cache_scheme=KV | {"num_bits": 4})),
    "kv-file": Planted(
        "mo-nvfp4",
        several(
            lambda draft: draft.json.pop("hf_quant_config.json"),
            quantization(kv_cache_scheme={"num_bits": 4, "type": "float"}),
        ),
        client="trtllm",
    ),
    "kv-shape": Planted("lc-fp8-kv", lambda draft: draft.put(f"{ATTENTION}.k_scale", "BF16", [3], b"\0\x3c" * 3)),
    "kv-place": Planted("lc-fp8-kv", rename("self_attn.k_scale", "self_attn.k_proj.k_scale")),
    # roles
    "embedding-quantized": Planted("mo-nvfp4", in_code("model.embed_tokens", f"{MLP}.up_proj")),
    "head-quantized": Planted("lc-nvfp4", in_code("lm_head", f"{MLP}.up_proj")),
    "head-tied": Planted(
        "mo-nvfp4", several(in_code("lm_head", f"{MLP}.up_proj"), change(tie_word_embeddings=True))
    ),
    "router-quantized": Planted("mo-nvfp4-moe", in_code(f"{MLP}.gate", f"{MLP}.experts.0.up_proj")),
    "expert-stacked": Planted(
        "mo-nvfp4-moe", lambda draft: draft.put(f"{MLP}.experts.gate_up_proj", "U8", [4, 256, 64])
    ),
    "expert-blocks": Planted("hf-llama", lambda draft: gpt_oss(draft, scales=[4, 256, 3])),
    "expert-missing": Planted("mo-nvfp4-moe", lambda draft: forget(draft, f"{MLP}.experts.2.")),
    "expert-mixed": Planted("mo-nvfp4-moe", stored_in_floats(f"{MLP}.experts.1.down_proj")),
    "expert-parts": Planted("mo-nvfp4-moe", drop("experts.1.down_proj.input_scale")),
    "model-other": Planted("lc-nvfp4", change(vocab_size=32000)),
    "layer-count": Planted("lc-nvfp4", change(num_hidden_layers=2)),
    # what serving taught
    "zero-points": Planted("lc-w4a16-asym", client="transformers"),
    "fused-block": Planted(
        "lc-fp8-blocks", lambda draft: draft.put(f"{ATTENTION}.k_proj.weight", "F8_E4M3", [64, 256])
    ),
    "blocks-both": Planted("mo-fp8-blocks"),
    "experts-decoded": Planted(
        "lc-fp8-moe", weights(strategy="block", block_structure=[128, 128]), client="transformers"
    ),
    "experts-together": Planted(
        "lc-fp8-moe",
        several(
            rename(".mlp.", ".block_sparse_moe."),
            quantization(ignore=["model.layers.0.block_sparse_moe.gate", "lm_head"]),
            change(model_type="granitemoe", architectures=["GraniteMoeForCausalLM"]),
        ),
        client="transformers",
    ),
    "opening": Planted(
        "lc-nvfp4", change(model_type="nanochat", architectures=["NanoChatForCausalLM"]), client="transformers"
    ),
    "channel-experts": Planted("mo-fp8-moe", quantization(quant_algo="FP8_PER_CHANNEL_PER_TOKEN")),
    "w4a8-experts": Planted("mo-nvfp4-moe", lambda draft: w4a8_experts(draft)),
    "older-vllm": Planted("mo-mxfp8"),
    "kv-dense-qwen": Planted("mo-fp8-kv", change(model_type="qwen3")),
}

CHOSEN_BY_THE_PEER = (
    "zero-points",
    "modelopt-silent",
    "client-refuses",
    "client-unverified",
    "blocks-both",
    "older-vllm",
)
"""What these find is what the peer meant to write."""


def gptq(draft, rows):
    """One layer with GPTQ codes of `rows` output features."""
    draft.config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    name = f"{MLP}.up_proj"
    del draft.tensors[f"{name}.weight"]
    draft.put(f"{name}.qweight", "I32", [16, rows])


def gpt_oss(draft, blocks=(4, 256, 4, 16), scales=(4, 256, 4), dtype="U8"):
    """One layer gets experts as gpt-oss has them."""
    draft.config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    draft.put(f"{MLP}.experts.gate_up_proj_blocks", dtype, list(blocks))
    draft.put(f"{MLP}.experts.gate_up_proj_scales", "U8", list(scales))
    draft.put(f"{MLP}.experts.gate_up_proj_bias", "BF16", [4, 256])


def zero_byte(draft, ending):
    name = draft.first(ending)
    dtype, shape, raw = draft.tensors[name]
    draft.put(name, dtype, shape, b"\0" + raw[1:])


def low_scales(draft, ending):
    name = draft.first(ending)
    dtype, shape, raw = draft.tensors[name]
    draft.put(name, dtype, shape, b"\x30" * len(raw))  # 0.5 in e4m3


def w4a8_experts(draft):
    """All experts become INT4 beside FP8 inputs, in compressed-tensors."""
    expert = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}
    inputs = {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True, "symmetric": True}
    group = {"targets": ["Linear"], "format": "pack-quantized", "weights": expert, "input_activations": inputs}
    draft.config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["re:.*self_attn.*", "lm_head", f"{MLP}.gate"],
    }
    forget(draft, f"{MLP}.experts.")
    for number in range(4):
        for part in ("gate_proj", "up_proj", "down_proj"):
            name = f"{MLP}.experts.{number}.{part}"
            draft.put(f"{name}.weight_packed", "I32", [128, 16])
            draft.put(f"{name}.weight_scale", "BF16", [128, 1])
            draft.put(f"{name}.weight_shape", "I64", [2], struct.pack("<2q", 128, 128))


def per_tensor_fp8(draft):
    """All layers become FP8 with one scale each, of two values."""
    draft.quantization["format"] = "float-quantized"
    draft.group.update(
        format="float-quantized",
        weights={"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False, "symmetric": True},
        input_activations={"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True, "symmetric": True},
    )
    modules = [name.removesuffix(".weight_packed") for name in draft.tensors if name.endswith(".weight_packed")]
    for number, module in enumerate(modules):
        forget(draft, f"{module}.")
        draft.put(f"{module}.weight", "F8_E4M3", [64, 128])
        draft.put(f"{module}.weight_scale", "F32", [1], struct.pack("<f", 0.001 * (1 + number)))


def mixed(draft):
    names = [name.removesuffix(".weight_scale") for name in draft.tensors if name.endswith(".weight_scale")]
    layers = {name: {"quant_algo": "W8A16" if "k_proj" in name else "FP8"} for name in names}
    draft.quantization.update(quant_algo="MIXED_PRECISION", quantized_layers=layers)


def forget(draft, start):
    for name in [name for name in draft.tensors if name.startswith(start)]:
        del draft.tensors[name]


@pytest.mark.parametrize(
    ("spoil", "rules"),
    [
        (gpt_oss, set()),
        (lambda draft: gpt_oss(draft, blocks=(4, 256, 4, 32)), {"expert-blocks"}),
        (lambda draft: gpt_oss(draft, blocks=(4, 256, 64)), {"shape"}),
        (lambda draft: gpt_oss(draft, dtype="BF16"), {"dtype"}),
        (several(gpt_oss, drop("gate_up_proj_scales")), {"tensor-missing"}),
        (several(gpt_oss, drop("gate_up_proj_blocks")), {"tensor-missing", "weight-lost"}),
        (several(gpt_oss, drop("gate_up_proj_blocks"), drop("gate_up_proj_scales")), {"nothing-quantized"}),
    ],
    ids=["sound", "block of 64", "three axes", "floats", "no scales", "no blocks", "neither"],
)
def test_experts_of_gpt_oss_are_known(peer, judge, tmp_path, spoil, rules):
    draft = peer("hf-llama")
    spoil(draft)
    report = judge(draft.write(tmp_path))
    assert {finding.rule for finding in report.findings if finding.severity == "error"} == rules
    assert "method-unknown" not in {finding.rule for finding in report.findings}
    assert all("experts of gpt-oss in FP4" in reading.how for reading in report.readings.values())


def test_there_is_a_planted_fault_for_every_rule(registry):
    assert set(PLANTED) == set(registry.lint_rules)


@pytest.mark.parametrize("rule", PLANTED)
def test_a_planted_fault_is_found_by_its_rule(peer, judge, tmp_path, rule):
    planted = PLANTED[rule]
    draft = peer(planted.peer)
    before = judge(draft.write(tmp_path / "before", planted.shards), planted.client)
    planted.spoil(draft)
    folder = draft.write(tmp_path / "after", planted.shards)
    planted.damage(folder)
    after = judge(folder, planted.client)
    found = [finding for finding in after.findings if finding.rule == rule]
    assert found, f"found instead: {[finding.rule for finding in after.findings]}"
    if rule not in CHOSEN_BY_THE_PEER:
        assert rule not in {finding.rule for finding in before.findings}
    for finding in found:
        assert planted.client in finding.clients
        assert finding.where
        assert finding.why
        assert finding.todo


@pytest.mark.parametrize("rule", PLANTED)
def test_a_severity_says_whether_the_client_can_use_it(peer, judge, tmp_path, rule, registry):
    planted = PLANTED[rule]
    draft = peer(planted.peer)
    planted.spoil(draft)
    folder = draft.write(tmp_path, planted.shards)
    planted.damage(folder)
    report = judge(folder, planted.client)
    if registry.lint_rules[rule].severity_for(planted.client) == "error":
        assert not report.loads(planted.client)

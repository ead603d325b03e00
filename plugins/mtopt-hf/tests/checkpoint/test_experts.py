"""Stacked experts come apart under the hub's names, each with its own scale; and the cache keeps its scales."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PhimoeConfig,
    PhimoeForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

import mtcore
from mtcore.export import SourceFiles
from mtcore.flow import export_model
from mtcore.numerics import dequantize
from mtcore.plugins import Registry
from mtcore.quantization import plan_model, to_artifact
from mtopt_hf import hooks
from mtopt_hf.ct import client_problems

SIZES = {
    "vocab_size": 64, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
MODELS = {
    "qwen3": (Qwen3MoeForCausalLM, Qwen3MoeConfig, {"moe_intermediate_size": 128, "num_experts": 3}),
    "mixtral": (MixtralForCausalLM, MixtralConfig, {"num_local_experts": 3}),
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "phimoe": (PhimoeForCausalLM, PhimoeConfig, {"num_local_experts": 3}),
}
PARTS = {"qwen3": ("gate_proj", "up_proj", "down_proj"), "mixtral": ("w1", "w3", "w2")}
WHERE = {"qwen3": "model.layers.0.mlp.experts", "mixtral": "model.layers.0.block_sparse_moe.experts"}


@pytest.fixture(scope="module")
def ids():
    return torch.randint(0, 64, (2, 16), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def registry():
    return Registry.load([hooks], discover=False)


def model_of(kind):
    cls, config, options = MODELS[kind]
    torch.manual_seed(0)
    more = {} if kind == "llama" else {"num_experts_per_tok": 2}
    return cls(config(**SIZES, **options, **more)).eval()


def source_of(model):
    config = json.loads(model.config.to_json_string())
    return SourceFiles({**config, "architectures": [type(model).__name__]})


@pytest.fixture(scope="module")
def exported(ids, registry, tmp_path_factory):
    """`exported(kind, recipe, dialect)`: the quantized model, its artifact and the directory."""

    def export(kind, recipe, dialect="compressed-tensors"):
        model = model_of(kind)
        quantized = mtcore.quantize(model, recipe, [{"input_ids": ids}])
        folder = tmp_path_factory.mktemp("out") / kind
        source = source_of(model)
        export_model(quantized, folder, dialect=dialect, source=source, registry=registry)
        return quantized, to_artifact(quantized, source), folder

    return export


@pytest.mark.parametrize("dialect", ["compressed-tensors", "modelopt"])
@pytest.mark.parametrize("kind", PARTS)
def test_every_expert_has_its_matrices_and_scales_under_the_hubs_names(kind, dialect, exported):
    _, artifact, folder = exported(kind, "nvfp4", dialect)
    found = load_file(folder / "model.safetensors")
    assert not any(tensor.dim() == 3 for tensor in found.values())
    module = artifact.modules["model.layers.0.mlp.experts"]
    outer = "weight_global_scale" if dialect == "compressed-tensors" else "weight_scale_2"
    codes = "weight_packed" if dialect == "compressed-tensors" else "weight"
    for expert in range(3):
        gate, up, down = (f"{WHERE[kind]}.{expert}.{part}" for part in PARTS[kind])
        joined, alone = module.weights[f"gate_up_proj.{expert}"], module.weights[f"down_proj.{expert}"]
        assert torch.equal(torch.cat([found[f"{gate}.{codes}"], found[f"{up}.{codes}"]]), joined.qdata)
        scales = torch.cat([found[f"{name}.weight_scale"].view(torch.uint8) for name in (gate, up)])
        assert torch.equal(scales, joined.qparams.scale.view(torch.uint8))
        assert torch.equal(found[f"{down}.{codes}"], alone.qdata)
        assert torch.equal(found[f"{gate}.{outer}"], found[f"{up}.{outer}"])
        given = "input_global_scale" if dialect == "compressed-tensors" else "input_scale"
        assert torch.equal(found[f"{gate}.{given}"], found[f"{up}.{given}"])
    assert len({float(found[f"{WHERE[kind]}.{expert}.{PARTS[kind][2]}.{outer}"]) for expert in range(3)}) == 3


@pytest.mark.parametrize("recipe", ["fp8_weight_only", "int4_weight_only", "int8_weight_only"])
@pytest.mark.parametrize("kind", PARTS)
def test_transformers_opens_experts_with_the_logits_of_the_quantized_model(kind, recipe, exported, ids):
    quantized, artifact, folder = exported(kind, recipe)
    assert not client_problems("hf", artifact.plan)
    client = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        assert torch.equal(client(ids).logits, quantized(ids).logits)


def test_a_router_that_is_a_subclass_of_linear_is_named_as_transformers_knows_it(exported, ids):
    """Its forward is its own, so the plan knows no quantized form; transformers would quantize it as a Linear."""
    quantized, _, folder = exported("phimoe", "fp8_weight_only")
    ignored = json.loads((folder / "config.json").read_text())["quantization_config"]["ignore"]
    assert {"model.layers.0.mlp.router", "model.layers.0.block_sparse_moe.gate"} <= set(ignored)
    client = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        assert torch.equal(client(ids).logits, quantized(ids).logits)


@pytest.mark.parametrize("recipe", ["int4_asym_weight_only", "nvfp4_weight_only", "mxfp8"])
def test_experts_that_transformers_cannot_decode_are_named_beforehand(recipe, registry, ids):
    model = model_of("qwen3")
    plan = plan_model(model, recipe, inputs={"input_ids": ids}, registry=registry)
    (problem,) = client_problems("hf", plan)
    assert problem.startswith(f"model.layers.0.mlp.experts: hf: {plan.quantized[0].slots[0].format.name} (rule #")
    assert problem.endswith("it decodes experts in fp8, fp8_row, mxfp4, mxfp6_e2m3 and symmetric integers alone")
    assert not client_problems("vllm", plan)


CACHED = {
    "rules": [{"weight": "fp8_row", "modules": "*proj*"}, {"k": "fp8", "v": "fp8"}],
    "max_unquantized": 1.0,
}


def test_transformers_runs_the_cache_with_our_scales_bit_for_bit(exported, ids):
    quantized, artifact, folder = exported("llama", CACHED)
    found = load_file(folder / "model.safetensors")
    activations = artifact.modules["model.layers.0.self_attn"].activations
    for slot in ("k", "v"):
        assert torch.equal(found[f"model.layers.0.self_attn.{slot}_scale"], activations[slot].scale.reshape(1))
    client = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    plain = {**CACHED, "rules": CACHED["rules"][:1]}
    without = mtcore.quantize(model_of("llama"), plain, [{"input_ids": ids}])
    with torch.inference_mode():
        logits = quantized(ids).logits
        assert torch.equal(client(ids).logits, logits)
        assert not torch.equal(without(ids).logits, logits)


@pytest.mark.parametrize(("fmt", "algo"), [("fp8", "FP8"), ("nvfp4", "NVFP4")])
def test_modelopt_names_the_scales_of_a_cache_after_the_projections(fmt, algo, exported):
    rules = [
        {"weight": "fp8", "input": "fp8", "modules": "*proj*"},
        {"k": fmt, "v": fmt},
    ]
    _, artifact, folder = exported("llama", {"rules": rules, "max_unquantized": 1.0}, "modelopt")
    found = load_file(folder / "model.safetensors")
    nested = json.loads((folder / "hf_quant_config.json").read_text())["quantization"]
    assert nested["kv_cache_quant_algo"] == algo
    activations = artifact.modules["model.layers.0.self_attn"].activations
    for slot in ("k", "v"):
        scale = found[f"model.layers.0.self_attn.{slot}_proj.{slot}_scale"]
        qparams = activations[slot]
        amax = qparams.scale * 448 if fmt == "fp8" else qparams.scale_2.double() * 2688
        assert scale.shape == ()
        # amax went through two roundings to fp32, one in each direction
        assert float(scale) == pytest.approx(float(amax) / 448, rel=2 * 2**-24)


def test_rows_of_an_expert_are_the_very_codes(exported):
    _, artifact, folder = exported("mixtral", "int8_weight_only")
    found = load_file(folder / "model.safetensors")
    weight = dequantize(artifact.modules["model.layers.0.mlp.experts"].weights["gate_up_proj.2"], torch.float32)
    name = "model.layers.0.block_sparse_moe.experts.2.w3"
    packed, scale = found[f"{name}.weight_packed"], found[f"{name}.weight_scale"]
    codes = packed.view(torch.uint8).float() - 128
    assert torch.equal(codes * scale, weight[256:])

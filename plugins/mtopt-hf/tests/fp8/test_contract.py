"""DeepSeek's dialect keeps the contract of exporters, and transformers opens what it wrote."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, FineGrainedFP8Config, LlamaConfig, LlamaForCausalLM

import mtcore
from mtcore.export import SourceFiles
from mtcore.flow import export_model
from mtcore.formats.catalog import FP8, FP8_RUN, FP8_TILE
from mtcore.numerics import dequantize
from mtcore.plan import Coverage, ModulePlan, Plan, SlotPlan
from mtcore.plugins import Registry
from mtcore.quantization import to_artifact
from mtcore.testing import ExporterContract
from mtopt_hf import hooks
from mtopt_hf.exporters import exporters
from mtopt_hf.fp8 import check_plan


def read_checkpoint(folder):
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_scale_inv")]:
        stem = name.removesuffix("_scale_inv")
        weight = tensors[stem].float()
        scale = tensors[name].repeat_interleave(128, 0).repeat_interleave(128, 1)
        tensors[stem] = weight * scale[: weight.shape[0], : weight.shape[1]]
    return tensors


class TestContract(ExporterContract):
    @pytest.fixture
    def exporter(self):
        return next(spec for spec in exporters() if spec.name == "fp8")

    @pytest.fixture
    def weight_format(self):
        return FP8_TILE

    @pytest.fixture
    def input_format(self):
        return FP8_RUN

    @pytest.fixture
    def config(self):
        return {"architectures": ["Toy"]}

    @pytest.fixture
    def read_back(self):
        return read_checkpoint

    def test_the_configuration_is_deepseeks(self, written):
        assert json.loads((written / "config.json").read_text())["quantization_config"] == {
            "quant_method": "fp8",
            "fmt": "e4m3",
            "activation_scheme": "dynamic",
            "weight_block_size": [128, 128],
            "modules_to_not_convert": [],
        }


def problems(*slots):
    planned = tuple(SlotPlan(slot, fmt, mode, f"rule of {slot}") for slot, fmt, mode in slots)
    module = ModulePlan("up", "Linear", "nn.Linear", (("weight", (256, 128)),), planned, "by hand")
    return "; ".join(check_plan(Plan("by hand", (module,), (), (), (), Coverage(1, 1, 0))))


def test_other_formats_and_unquantized_inputs_are_refused_by_name():
    assert "up: clients of fp8 quantize inputs, which rule of weight does not" in problems(
        ("weight", FP8_TILE, "static")
    )
    assert "format fp8 (weight, rule of weight) with inputs in fp8 (rule of input)" in problems(
        ("weight", FP8, "static"), ("input", FP8, "static")
    )


def test_transformers_opens_the_very_weights(tmp_path):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=128, intermediate_size=256, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    recipe = {"rules": [{"weight": "fp8_128x128", "input": "fp8_1x128", "modules": "*.[oqgud]*_proj"}]}
    quantized = mtcore.quantize(model, {**recipe, "max_unquantized": 1.0}, [{"input_ids": torch.arange(8)[None]}])
    source = SourceFiles({**json.loads(config.to_json_string()), "architectures": ["LlamaForCausalLM"]})
    registry = Registry.load([hooks], discover=False)
    export_model(quantized, tmp_path / "out", dialect="fp8", source=source, registry=registry)
    client = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", quantization_config=FineGrainedFP8Config(dequantize=True), dtype=torch.float32
    )
    modules = to_artifact(quantized, source).modules
    assert len(modules) == 5
    for name, module in modules.items():
        assert torch.equal(client.get_submodule(name).weight, dequantize(module.weights["weight"]))
    assert torch.equal(
        client.model.layers[0].self_attn.k_proj.weight, model.model.layers[0].self_attn.k_proj.weight
    )

"""Every preset loads, says what it is, and leaves alone what nearly every recipe leaves alone."""

import pytest
import torch
import yaml
from torch import nn

from mtcore.plugins import Registry
from mtcore.quantization import quantize
from mtcore.recipe import builtin_recipes

PRESETS = [spec.name for spec in builtin_recipes()]
WHOLE = [name for name in PRESETS if name != "base_exclusions"]


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_summary_is_that_of_its_text(name, recipes):
    assert recipes[name].summary == yaml.safe_load(recipes[name].text)["summary"]


@pytest.mark.parametrize("name", WHOLE)
def test_a_preset_quantizes_the_weights_of_experts_and_not_the_head(name, load, decide):
    config = load(name)
    assert config.name == name
    assert decide(config, "model.layers.0.mlp.experts.7.up_proj", "weight") is not None
    for module in (
        "lm_head",
        "model.visual.blocks.0.mlp.fc1",
        "model.layers.0.mlp.gate",
        "mtp.layers.0.mlp.up_proj",
    ):
        assert decide(config, module, "weight") is None, module
        assert decide(config, module, "input") is None, module
    assert decide(config, "model.embed_tokens", "weight", "nn.Embedding") is None
    assert decide(config, "model.norm", "input", "nn.LayerNorm") is None


@pytest.mark.parametrize("name", WHOLE)
def test_a_preset_leaves_outputs_alone(name, load, decide):
    assert decide(load(name), "model.layers.0.mlp.up_proj", "output") is None


def test_names_that_only_look_like_routers_are_quantized(load, decide):
    for module in ("model.layers.0.mlp.gate_proj", "model.layers.0.mlp.gate_up_proj", "a.attention.output.dense"):
        assert decide(load("nvfp4"), module, "weight") is not None, module


@pytest.mark.parametrize(
    ("name", "weight", "activation"),
    [
        ("nvfp4", "nvfp4 (static)", "nvfp4 (dynamic_blocks)"),
        ("nvfp4_weight_only", "nvfp4 (static)", "None"),
        ("fp8", "fp8 (static)", "fp8 (static)"),
        ("fp8_row", "fp8_row (static)", "fp8_row (dynamic)"),
        ("int8", "int8_row (static)", "int8_row_full (dynamic)"),
        ("int8_static", "int8_row (static)", "int8 (static)"),
        ("int8_weight_only", "int8_row (static)", "None"),
        ("fp8_block", "fp8_128x128 (static)", "fp8_1x128 (dynamic)"),
        ("fp8_e5m2", "fp8_e5m2 (static)", "fp8_e5m2 (static)"),
        ("nvfp4_fp8", "nvfp4_fp8 (static)", "fp8 (static)"),
        ("mxfp8", "mxfp8_e4m3 (static)", "mxfp8_e4m3 (dynamic)"),
        ("mxfp4_mxfp8", "mxfp4 (static)", "mxfp8_e4m3 (dynamic)"),
        ("mxint8", "mxint8 (static)", "mxint8 (dynamic)"),
        ("int4_weight_only", "int4_b128 (static)", "None"),
        ("int4_asym_weight_only", "int4_b128_asym (static)", "None"),
        ("int4_fp8", "int4_b128_fp8 (static)", "fp8 (static)"),
        ("nf4_weight_only", "nf4 (static)", "None"),
    ],
)
def test_a_preset_gives_the_formats_that_its_name_promises(name, weight, activation, load, decide):
    config = load(name)
    module = "model.layers.3.self_attn.q_proj"
    assert str(decide(config, module, "weight")) == weight
    assert str(decide(config, module, "input")) == activation


@pytest.mark.parametrize("name", ["nvfp4_experts_only", "mxfp4_experts_only"])
def test_an_experts_only_preset_leaves_all_else_alone(name, load, decide):
    config = load(name)
    for module in ("model.layers.3.self_attn.q_proj", "model.layers.3.mlp.up_proj", "a.mlp.shared_experts.up_proj"):
        assert decide(config, module, "weight") is None, module
    fused = [rule for rule in config.rules if rule.matches("a.experts", "up", is_weight=True, module_type=None)]
    assert fused


def test_every_element_of_the_catalog_is_used_by_a_preset(formats, load):
    used = {rule.setting.format.element for name in WHOLE for rule in load(name).rules if rule.setting}
    assert {fmt.element for fmt in formats.values() if fmt.zero_point is None} - used <= {
        formats["int8_row_full"].element,  # a convention of one checkpoint dialect
    }


def test_the_mlp_only_preset_leaves_attention_alone(load, decide):
    config = load("nvfp4_mlp_only")
    assert decide(config, "model.layers.3.self_attn.q_proj", "weight") is None
    assert decide(config, "model.layers.3.block_sparse_moe.experts.0.w1", "weight") is not None
    assert config.max_unquantized == 1.0


class Block(nn.Module):
    """Attention and one expert: what the presets tell apart."""

    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(128, 128)
        self.mlp = nn.ModuleDict({"experts": nn.ModuleList([nn.Linear(128, 128)])})
        self.lm_head = nn.Linear(128, 4)

    def forward(self, x):
        q = self.q_proj(x)
        return self.lm_head(self.mlp["experts"][0](nn.functional.scaled_dot_product_attention(q, x, x)))


@pytest.mark.parametrize("name", WHOLE)
def test_a_preset_quantizes_a_model_from_end_to_end(name):
    torch.manual_seed(0)
    model, x = Block(), torch.randn(2, 8, 128)
    before = model(x)
    model = quantize(model, name, [x], registry=Registry.load(discover=False))
    after = model(x)
    assert type(model.mlp["experts"][0]) is not nn.Linear
    assert type(model.lm_head) is nn.Linear
    assert after.isfinite().all()
    assert not torch.equal(after, before)

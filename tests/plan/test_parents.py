"""Layers that their parent reads without calling them are quantized with it, or not at all."""

from torch import nn

from mtcore.plan import make_plan
from mtcore.plan.parents import children_read


def test_the_output_projection_of_attention_is_read_by_its_parent(specs):
    model = nn.ModuleDict({"attn": nn.MultiheadAttention(16, 2), "out": nn.Linear(16, 16)})
    assert children_read(model, specs) == {"attn.out_proj": "attn"}
    assert children_read(model["attn"], specs) == {"out_proj": ""}


def test_it_is_quantized_together_with_its_parent_only(specs, make_config):
    model = nn.ModuleDict({"attn": nn.MultiheadAttention(16, 2)})
    both = make_plan(model, make_config({"*weight_quantizer": "fp8"}), specs)
    assert [module.name for module in both.quantized] == ["attn", "attn.out_proj"]
    rules = {"*weight_quantizer": "fp8", "*in_proj*": None}
    alone = make_plan(model, make_config(rules, max_unquantized=1.0), specs)
    assert alone.quantized == ()
    assert [f.where for f in alone.findings if f.level == "warning" and "without calling it" in f.message] == [
        "attn.out_proj"
    ]

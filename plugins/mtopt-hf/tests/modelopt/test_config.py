"""The two descriptions: one algorithm, several, and a cache; each said twice in the same words."""

import pytest
import torch

from mtcore.formats.catalog import FP8, INT4_B128, NVFP4
from mtcore.plan import ModulePlan, SlotPlan
from mtopt_hf.checkpoint import Contents, Layer, pairs_of
from mtopt_hf.modelopt.config import describe


def layer(name, *slots):
    planned = tuple(SlotPlan(slot, fmt, mode, "by hand") for slot, fmt, mode in slots)
    return Layer(name, *pairs_of(ModulePlan(name, "Linear", "nn.Linear", (("weight", (256, 128)),), planned, "")))


W8A8 = [("weight", FP8, "static"), ("input", FP8, "static")]
W4A4 = [("weight", NVFP4, "static"), ("input", NVFP4, "dynamic_blocks")]


def described(*layers, cache=None, config=None):
    found = describe(Contents(layers, ("lm_head",), cache, torch.bfloat16, config or {}))
    return found.config, found.files["hf_quant_config.json"]["quantization"]


def test_one_algorithm_stands_alone_and_names_what_stays():
    config, nested = described(layer("up", *W4A4))
    assert nested == {
        "quant_algo": "NVFP4",
        "group_size": 16,
        "kv_cache_quant_algo": None,
        "exclude_modules": ["lm_head"],
    }
    flat = config["quantization_config"]
    assert (flat["quant_method"], flat["quant_algo"], flat["group_size"]) == ("modelopt", "NVFP4", 16)
    assert flat["ignore"] == ["lm_head"]
    four = {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16}
    assert flat["config_groups"] == {"group_0": {"input_activations": four, "weights": four, "targets": ["Linear"]}}
    assert "quantized_layers" not in flat


def test_several_algorithms_name_every_layer():
    config, nested = described(layer("q", *W8A8), layer("up", *W4A4))
    layers = {"q": {"quant_algo": "FP8"}, "up": {"quant_algo": "NVFP4", "group_size": 16}}
    assert (nested["quant_algo"], nested["quantized_layers"]) == ("MIXED_PRECISION", layers)
    flat = config["quantization_config"]
    assert (flat["quant_algo"], flat["quantized_layers"]) == ("MIXED_PRECISION", layers)
    assert [group["targets"] for group in flat["config_groups"].values()] == [["q"], ["up"]]


def test_weights_alone_say_so_to_a_reader_of_bits():
    config, nested = described(layer("up", ("weight", INT4_B128, "static")))
    assert nested["pre_quant_scale"] is True
    assert nested["has_zero_point"] is False
    assert "config_groups" not in config["quantization_config"]
    config, _ = described(layer("up", ("weight", NVFP4, "static")))
    (group,) = config["quantization_config"]["config_groups"].values()
    assert group["input_activations"] is None
    assert group["weights"] == {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16}


@pytest.mark.parametrize(
    ("fmt", "algo", "scheme"),
    [(FP8, "FP8", {"dynamic": False, "num_bits": 8, "type": "float"}), (NVFP4, "NVFP4", "NVFP4")],
)
def test_a_cache_is_named_in_both(fmt, algo, scheme):
    config, nested = described(layer("up", *W4A4), cache=fmt)
    assert nested["kv_cache_quant_algo"] == algo
    assert config["quantization_config"]["kv_cache_scheme"] == scheme


def test_a_dtype_is_added_only_where_the_source_says_none():
    assert described(layer("up", *W8A8))[0]["dtype"] == "bfloat16"
    assert "dtype" not in described(layer("up", *W8A8), config={"dtype": "float16"})[0]
    assert "dtype" not in described(layer("up", *W8A8), config={"torch_dtype": "float16"})[0]

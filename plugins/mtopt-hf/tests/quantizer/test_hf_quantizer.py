"""Opening a written checkpoint in transformers with our quantizer, and saving it again."""

import copy
import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.quantizers import auto
from transformers.quantizers.quantizer_compressed_tensors import CompressedTensorsHfQuantizer

from mtcore.errors import ModelError
from mtcore.export import SourceFiles
from mtcore.flow import export_model
from mtcore.nn import PackedLinear, QuantLinear
from mtcore.quantization import is_quantized, quantize
from mtopt_hf.quantizer import MtcoreConfig, MtcoreQuantizer, registered

RECIPES = ("fp8", "fp8_row", "fp8_weight_only", "int8", "int8_weight_only", "nvfp4", "nvfp4_weight_only")

pytestmark = pytest.mark.filterwarnings("ignore:You passed `quantization_config`")


def tensors(folder):
    return {name: t for file in folder.glob("*.safetensors") for name, t in load_file(file).items()}


def canonical(name, tensor):
    """Bytes; a packed FP4 code for minus zero (8) counts as zero: it comes back as zero, of the same value."""
    if not name.endswith("weight_packed") or tensor.dtype != torch.uint8:
        return tensor.contiguous().view(torch.uint8)
    low, high = tensor & 15, tensor >> 4
    return torch.stack([torch.where(nibble == 8, 0, nibble) for nibble in (low, high)])


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_written_checkpoint_opens_with_the_logits_of_the_model_that_it_was_written_from(
    recipe, written, open_as, ids
):
    model = open_as(written(recipe).folder).eval()
    assert is_quantized(model)
    assert isinstance(model.model.layers[0].mlp.up_proj, QuantLinear)
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, written(recipe).logits)


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_was_opened_is_saved_as_it_was(recipe, written, open_as, tmp_path):
    folder = written(recipe).folder
    open_as(folder).save_pretrained(tmp_path / "again")
    before, after = tensors(folder), tensors(tmp_path / "again")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype, name
        assert torch.equal(canonical(name, after[name]), canonical(name, tensor)), name
    configs = [json.loads((f / "config.json").read_text()) for f in (folder, tmp_path / "again")]
    assert configs[0]["quantization_config"] == configs[1]["quantization_config"]


@pytest.mark.parametrize("recipe", ["fp8", "nvfp4"])
def test_what_was_saved_again_opens_again_with_the_same_logits(recipe, written, open_as, ids, tmp_path):
    open_as(written(recipe).folder).save_pretrained(tmp_path / "again")
    with torch.inference_mode():
        assert torch.equal(open_as(tmp_path / "again").eval()(ids).logits, written(recipe).logits)


def test_a_mixed_checkpoint_gives_every_layer_its_own_format(tiny_llama, open_as, ids, tmp_path):
    attention = {"modules": ["*self_attn*"], "weight": "fp8", "input": {"format": "fp8", "mode": "static"}}
    model = quantize(copy.deepcopy(tiny_llama), {"include": ["nvfp4"], "rules": [attention]}, [{"input_ids": ids}])
    config = {**model.config.to_dict(), "architectures": ["LlamaForCausalLM"]}
    export_model(model, tmp_path / "mixed", source=SourceFiles(config=config))
    opened = open_as(tmp_path / "mixed").eval()
    assert opened.model.layers[0].self_attn.q_proj.weight_quantizer.format.name == "fp8"
    assert opened.model.layers[0].mlp.up_proj.weight_quantizer.format.name == "nvfp4"
    with torch.inference_mode():
        # An NVFP4 outer scale may be 2^-23 off; 14 products in a row, both factors: below 4e-6 for logits around 1.
        assert torch.allclose(opened(ids).logits, model(ids).logits, rtol=0, atol=4e-6)


def test_packed_layers_hold_codes_and_give_the_same_logits(written, open_as, ids):
    model = open_as(written("fp8").folder, "packed").eval()
    layer = model.model.layers[0].mlp.up_proj
    assert isinstance(layer, PackedLinear)
    assert layer.qdata.dtype == torch.float8_e4m3fn
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, written("fp8").logits)


def test_packed_layers_are_not_saved_and_the_error_says_how_to_open_them_instead(written, open_as, tmp_path):
    model = open_as(written("fp8").folder, "packed")
    with pytest.raises(ModelError, match="modules='fake'"):
        model.save_pretrained(tmp_path / "again")


def test_a_model_of_another_dtype_gets_the_codes_of_the_file_too(written, tmp_path):
    folder = written("fp8").folder
    with registered():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "again")
    name = "model.layers.1.mlp.down_proj.weight"
    before, after = tensors(folder), tensors(tmp_path / "again")
    assert torch.equal(before[name].view(torch.uint8), after[name].view(torch.uint8))
    assert torch.equal(before[f"{name}_scale"], after[f"{name}_scale"])


def test_transformers_is_as_before_when_the_context_is_closed():
    with pytest.raises(RuntimeError, match="inside"), registered():
        raise RuntimeError("inside")
    assert auto.AUTO_QUANTIZER_MAPPING["compressed-tensors"] is CompressedTensorsHfQuantizer


def test_an_unknown_kind_of_modules_is_refused_by_name():
    with pytest.raises(ModelError, match="modules 'dense': there are fake and packed"):
        MtcoreConfig("dense")


def test_a_group_that_no_format_of_ours_reads_is_refused_with_its_arguments(written, tmp_path):
    source = written("fp8").folder
    folder = tmp_path / "odd"
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"]["config_groups"]["group_0"]["weights"]["num_bits"] = 9
    (folder / "config.json").write_text(json.dumps(config))
    with registered(), pytest.raises(ModelError, match="no format for weights with num_bits 9"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_a_scale_that_is_missing_is_an_error(written, tmp_path):
    source = written("fp8").folder
    folder = tmp_path / "missing"
    folder.mkdir()
    (folder / "config.json").write_bytes((source / "config.json").read_bytes())
    kept = tensors(source)
    del kept["model.layers.0.mlp.up_proj.weight_scale"]
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with registered(), pytest.raises(RuntimeError, match="automatic conversion"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_a_module_whose_own_name_ends_with_weight_keeps_its_name():
    (converter,) = MtcoreQuantizer(MtcoreConfig()).get_weight_conversions()
    name = "layers.0.inject_weight.weight"
    assert [re.sub(pattern, "!", name) for pattern in converter.source_patterns if re.search(pattern, name)] == [
        "layers.0.inject_weight!"
    ]

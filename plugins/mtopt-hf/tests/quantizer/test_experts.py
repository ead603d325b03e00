"""Checkpoints with experts: written one by one, merged in memory, quantized there with the scales of the file."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from mtcore.export import SourceFiles
from mtcore.flow import export_model
from mtcore.nn.quant_experts import ExpertsQuantModule
from mtcore.quantization import quantize
from mtopt_hf.quantizer import registered

SIZES = {
    "vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "num_experts_per_tok": 2,
}  # fmt: skip
MODELS = {
    "mixtral": (MixtralForCausalLM, MixtralConfig, {"num_local_experts": 4}),
    "qwen3": (Qwen3MoeForCausalLM, Qwen3MoeConfig, {"moe_intermediate_size": 32, "num_experts": 4}),
}
INT4 = {"rules": [{"weight": "int4_b32"}, {"include": "base_exclusions"}], "algorithm": "max"}


@pytest.mark.parametrize("recipe", ["fp8", "nvfp4", INT4], ids=["fp8", "nvfp4", "int4"])
@pytest.mark.parametrize("name", MODELS)
def test_experts_come_back_with_their_own_scales(name, recipe, ids, tmp_path):
    cls, config, options = MODELS[name]
    torch.manual_seed(0)
    original = cls(config(**SIZES, **options)).eval()
    ids = ids % 64
    model = quantize(copy.deepcopy(original), recipe, [{"input_ids": ids}])
    source = SourceFiles(config={**model.config.to_dict(), "architectures": [cls.__name__]})
    export_model(model, tmp_path / "written", source=source)
    with registered():
        opened = AutoModelForCausalLM.from_pretrained(tmp_path / "written", dtype=torch.float32).eval()
    experts = [m for m in opened.modules() if isinstance(m, ExpertsQuantModule)]
    assert len(experts) == 2
    assert len({float(q.outer_amax or q.amax.max()) for _, q in experts[0].quantizers() if q.is_weight}) > 1
    with torch.inference_mode():
        logits, expected = opened(ids).logits, model(ids).logits
    # The reciprocal of an NVFP4 outer scale that the file holds does not always give that scale back, but one 2^-23
    # beside it. Every factor of 14 products in a row moves by that, so logits around 1 move by 28 · 2^-23 < 4e-6.
    assert torch.allclose(logits, expected, rtol=0, atol=4e-6 if recipe == "nvfp4" else 0)
    opened.save_pretrained(tmp_path / "again")
    before, after = (load_file(tmp_path / f / "model.safetensors") for f in ("written", "again"))
    assert before.keys() == after.keys()
    for scale in (key for key in before if "scale" in key):
        assert torch.equal(before[scale].view(torch.uint8), after[scale].view(torch.uint8)), scale

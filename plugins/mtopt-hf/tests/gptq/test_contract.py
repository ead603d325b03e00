"""GPTQ's dialect keeps the contract of exporters, in every width and both versions of zero points.

Its scales are fp16; see the test of AutoAWQ's dialect, which shares that code, for scales that fp16 does not hold.
"""

import json

import pytest
import torch
from safetensors.torch import load_file

from mtcore.formats.integers import int_block, int_block_asym
from mtcore.plan import Coverage, ModulePlan, Plan, SlotPlan
from mtcore.testing import ExporterContract
from mtopt_hf.exporters import exporters
from mtopt_hf.gptq import check_plan
from mtopt_hf.gptq.spelling import SPELLINGS


def codes_of(words, bits):
    """int32 words [n, m], dense along m, the first code in the lowest bits → int64 [n, 32·m/bits]."""
    unsigned = words.long() & 0xFFFFFFFF
    single = (unsigned[..., None] >> torch.arange(32) & 1).flatten(1)
    return (single.view(len(words), -1, bits) << torch.arange(bits)).sum(-1)


def read_checkpoint(folder):
    tensors = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    bits, older = config["bits"], config["checkpoint_format"] == "gptq"
    for name in [name for name in tensors if name.endswith(".qweight")]:
        stem = name.removesuffix(".qweight")
        codes = codes_of(tensors[name].t(), bits).t()
        zeros = codes_of(tensors[f"{stem}.qzeros"], bits) + older
        group = tensors[f"{stem}.g_idx"].long()
        tensors[f"{stem}.weight"] = ((codes - zeros[group]) * tensors[f"{stem}.scales"].float()[group]).t()
    return tensors


class TestEverySpelling(ExporterContract):
    @pytest.fixture
    def exporter(self):
        return next(spec for spec in exporters() if spec.name == "gptq")

    @pytest.fixture(params=SPELLINGS, ids=lambda spelling: spelling.weight.name)
    def spelling(self, request):
        return request.param

    @pytest.fixture
    def weight_format(self, spelling):
        return spelling.weight

    @pytest.fixture
    def artifact(self, weight_format, fp16_scaled):
        return fp16_scaled(weight_format)

    @pytest.fixture
    def read_back(self):
        return read_checkpoint

    def test_the_configuration_says_what_the_words_hold(self, written, spelling):
        config = json.loads((written / "config.json").read_text())["quantization_config"]
        assert config["quant_method"] == "gptq"
        assert (config["bits"], config["group_size"]) == (spelling.bits, spelling.group_size)
        assert (config["sym"], config["checkpoint_format"]) == (
            (True, "gptq") if spelling.weight.symmetric else (False, "gptq_v2")
        )
        assert config["desc_act"] is False

    def test_shapes_and_dtypes_are_those_that_clients_allocate(self, written, spelling):
        tensors, bits = load_file(written / "model.safetensors"), spelling.bits
        groups = 1 if spelling.group_size < 0 else 256 // spelling.group_size
        found = {part: tensors[f"down.{part}"] for part in ("qweight", "qzeros", "scales", "g_idx")}
        assert {part: (tuple(tensor.shape), tensor.dtype) for part, tensor in found.items()} == {
            "qweight": ((256 * bits // 32, 128), torch.int32),
            "qzeros": ((groups, 128 * bits // 32), torch.int32),
            "scales": ((groups, 128), torch.float16),
            "g_idx": ((256,), torch.int32),
        }


def module(name, fmt, shape=(256, 128)):
    slot = SlotPlan("weight", fmt, "static", "rule of weight")
    return ModulePlan(name, "Linear", "nn.Linear", (("weight", shape),), (slot,), "by hand")


def problems(*modules):
    return "; ".join(check_plan(Plan("by hand", modules, (), (), (), Coverage(1, 1, 0))))


def test_what_the_layout_cannot_hold_is_refused_by_name():
    assert "format int5_b128 (weight, rule of weight) cannot be spelled in gptq" in problems(
        module("up", int_block(5, 128))
    )
    assert "out_features 252 of 4 bits do not fill words" in problems(module("up", int_block(4, 128), (252, 128)))
    assert "one number of bits" in problems(module("up", int_block(4, 128)), module("down", int_block(8, 128)))
    assert "zero points in all layers or in none" in problems(
        module("up", int_block(4, 128)), module("down", int_block_asym(4, 128))
    )


def test_layers_that_stay_are_switched_off_by_their_exact_names():
    from mtopt_hf.checkpoint import Contents, Layer, pairs_of
    from mtopt_hf.gptq.dialect import describe

    layer = Layer("up", *pairs_of(module("up", int_block(4, 128))))
    config = describe(Contents((layer,), ("lm_head", "layers.0.gate"), None, torch.float16, {})).config
    assert config["quantization_config"]["dynamic"] == {"-:^lm_head$": {}, r"-:^layers\.0\.gate$": {}}
    assert config["dtype"] == "float16"

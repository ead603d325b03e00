"""gpt-oss's dialect: the stacks of the hub in blocks and scales, which transformers opens with our logits."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GptOssConfig, GptOssForCausalLM

import mtcore
from mtcore.errors import ExportError
from mtcore.export import SourceFiles, UnifiedExporter
from mtcore.flow import export_model
from mtcore.formats.catalog import MXFP4, MXFP8_E4M3
from mtcore.lint import lint, open_checkpoint
from mtcore.numerics import dequantize
from mtcore.plan import Coverage, ModulePlan, Plan, SlotPlan
from mtcore.plugins import Registry
from mtcore.quantization import plan_model, to_artifact
from mtopt_hf import hooks
from mtopt_hf.mxfp4 import check_plan

CONFIG = GptOssConfig(
    vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, head_dim=16,
    num_key_value_heads=2, max_position_embeddings=64, num_local_experts=3, num_experts_per_tok=2,
)  # fmt: skip
E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
SOURCE = SourceFiles({**json.loads(CONFIG.to_json_string()), "architectures": ["GptOssForCausalLM"]})


@pytest.fixture(scope="module")
def ids():
    return torch.randint(0, 64, (2, 16), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def registry():
    return Registry.load([hooks], discover=False)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = GptOssForCausalLM(CONFIG).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, 0, 0.08)
    return made


@pytest.fixture(scope="module")
def written(model, ids, registry, tmp_path_factory):
    """The quantized model, its artifact and its directory."""
    quantized = mtcore.quantize(model, "mxfp4_experts_only", [{"input_ids": ids}])
    folder = tmp_path_factory.mktemp("out") / "gpt-oss"
    export_model(quantized, folder, dialect="mxfp4", source=SOURCE, registry=registry)
    return quantized, to_artifact(quantized, SOURCE), folder


def test_blocks_and_scales_hold_every_experts_matrix(written):
    _, artifact, folder = written
    found = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.experts"
    for parameter, rows, cols in (("gate_up_proj", 192, 64), ("down_proj", 64, 96)):
        blocks, scales = found[f"{name}.{parameter}_blocks"], found[f"{name}.{parameter}_scales"]
        assert (blocks.shape, scales.shape) == ((3, rows, cols // 32, 16), (3, rows, cols // 32))
        nibbles = torch.stack([blocks & 15, blocks >> 4], -1).flatten(-2).long()
        values = torch.ldexp(E2M1[nibbles], scales[..., None].int() - 127).flatten(-2)
        for expert in range(3):
            weight = artifact.modules[name].weights[f"{parameter}.{expert}"]
            assert torch.equal(values[expert], dequantize(weight, torch.float32))
    assert f"{name}.gate_up_proj_bias" in found
    assert f"{name}.gate_up_proj" not in found


def test_transformers_opens_it_with_our_logits_bit_for_bit(written, ids):
    quantized, _, folder = written
    client = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        assert torch.equal(client(ids).logits, quantized(ids).logits)


def test_the_linter_finds_nothing_in_it_for_any_client(written, registry):
    _, _, folder = written
    report = lint(open_checkpoint(folder), registry.clients.values(), registry.lint_rules.values())
    assert report.findings == ()


def test_everything_else_is_named_as_it_stays(written):
    _, _, folder = written
    said = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert said["quant_method"] == "mxfp4"
    layers = [f"model.layers.{n}" for n in range(2)]
    parts = ("mlp.router", "self_attn.k_proj", "self_attn.o_proj", "self_attn.q_proj", "self_attn.v_proj")
    assert said["modules_to_not_convert"] == [
        "lm_head", "model.embed_tokens", *(f"{layer}.{part}" for layer in layers for part in parts),
    ]  # fmt: skip


def test_clients_are_given_it_for_gpt_oss(model, ids, registry):
    plan = plan_model(GptOssForCausalLM(CONFIG), "mxfp4_experts_only", inputs={"input_ids": ids}, registry=registry)
    exporter = UnifiedExporter(registry.exporters)
    for client in ("hf", "vllm"):
        target = exporter.target(plan, client, SOURCE)
        assert (target.dialect, target.problems) == ("mxfp4", ())


def plan_of(weight=MXFP4, given=None, beside=("gate_up_proj_bias", "down_proj_bias"), axis=2, cols=64):
    slots = [SlotPlan("gate_up_proj", weight, "static", "the rule")]
    slots += [] if given is None else [SlotPlan("gate_up_proj_input", given, "dynamic", "the rule")]
    shape = (3, cols, 128) if axis == 2 else (3, 128, cols)
    shapes = (("gate_up_proj", shape), *((name, (3, 128)) for name in beside))
    module = ModulePlan(
        "experts", "Experts", "experts", shapes, tuple(slots), "", facts=(("gate_up_proj", (axis,)),)
    )
    return Plan("test", (module,), (), (), (), Coverage(1, 1, 0))


def test_the_layout_of_gpt_oss_is_fine():
    assert not check_plan(plan_of())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weight": MXFP8_E4M3}, "mxfp8_e4m3 .* cannot be spelled in mxfp4; it has mxfp4"),
        ({"given": MXFP8_E4M3}, "holds weights alone; switch off the rule on inputs"),
        ({"cols": 48}, "in_features 48 is not a multiple of 32"),
        ({"beside": ()}, "know the experts of gpt-oss"),
        ({"axis": 1}, "know the experts of gpt-oss"),
    ],
)
def test_what_its_clients_do_not_read_is_refused(changed, message):
    (problem,) = check_plan(plan_of(**changed))
    assert re.search(message, problem)


def test_linear_layers_are_refused(model, ids, registry):
    plan = plan_model(GptOssForCausalLM(CONFIG), "mxfp4_weight_only", inputs={"input_ids": ids}, registry=registry)
    with pytest.raises(ExportError, match="mxfp4 holds quantized experts alone"):
        UnifiedExporter(registry.exporters).check(plan, "mxfp4", SOURCE)

"""Experts that the hub keeps in one tensor: written one by one where a client reads that, else refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    GraniteMoeConfig,
    GraniteMoeForCausalLM,
    Inkling2ForCausalLM,
    Inkling2TextConfig,
    Llama4ForCausalLM,
    Llama4TextConfig,
    MiniMaxM3VLForCausalLM,
    MiniMaxM3VLTextConfig,
)

import mtcore
from mtcore.errors import ExportError
from mtcore.export import SourceFiles, UnifiedExporter
from mtcore.flow import export_model
from mtcore.formats.catalog import FP8_ROW
from mtcore.lint import lint, open_checkpoint
from mtcore.plan import ModulePlan, SlotPlan
from mtcore.plugins import Registry
from mtcore.quantization import plan_model, to_artifact
from mtopt_hf import hooks
from mtopt_hf.checkpoint.apart import taken_apart
from mtopt_hf.checkpoint.pairs import Pair
from mtopt_hf.checkpoint.stacks import Piece
from mtopt_hf.quantizer import registered

SIZES = {
    "vocab_size": 64, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "num_local_experts": 3,
}  # fmt: skip
MODELS = {
    "granite": (GraniteMoeForCausalLM, GraniteMoeConfig, {"num_experts_per_tok": 2}),
    "llama4": (Llama4ForCausalLM, Llama4TextConfig, {
        "num_experts_per_tok": 1, "head_dim": 32, "intermediate_size_mlp": 256, "interleave_moe_layer_step": 1,
    }),
    "minimax-m3": (MiniMaxM3VLForCausalLM, MiniMaxM3VLTextConfig, {
        "num_experts_per_tok": 2, "head_dim": 32, "shared_intermediate_size": 256, "mlp_layer_types": ["sparse"],
        "layer_types": ["full_attention"],
    }),
    "gpt-oss": (GptOssForCausalLM, GptOssConfig, {"num_experts_per_tok": 2, "head_dim": 32}),
}  # fmt: skip
WHERE = {
    "granite": "model.layers.0.block_sparse_moe.experts", "llama4": "model.layers.0.feed_forward.experts",
    "minimax-m3": "model.layers.0.mlp.experts",
}  # fmt: skip


@pytest.fixture(scope="module")
def ids():
    return torch.randint(0, 64, (2, 16), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def registry():
    return Registry.load([hooks], discover=False)


def model_of(kind):
    cls, config, options = MODELS[kind]
    torch.manual_seed(0)
    model = cls(config(**SIZES, **options)).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, 0, 0.08)
    return model


def source_of(model):
    config = json.loads(model.config.to_json_string())
    return SourceFiles({**config, "architectures": [type(model).__name__]})


@pytest.fixture(scope="module")
def exported(ids, registry, tmp_path_factory):
    """`exported(kind, recipe, dialect)`: the quantized model, its artifact, and the directory; each made once."""
    made = {}

    def export(kind, recipe, dialect="compressed-tensors"):
        if (kind, recipe, dialect) not in made:
            model = model_of(kind)
            quantized = mtcore.quantize(model, recipe, [{"input_ids": ids}])
            folder = tmp_path_factory.mktemp("out") / kind
            source = source_of(model)
            export_model(quantized, folder, dialect=dialect, source=source, registry=registry)
            made[kind, recipe, dialect] = quantized, to_artifact(quantized, source), folder
        return made[kind, recipe, dialect]

    return export


@pytest.mark.parametrize("dialect", ["compressed-tensors", "modelopt"])
@pytest.mark.parametrize("kind", WHERE)
def test_every_expert_has_gate_up_and_down_with_the_codes_and_scales_of_the_stack(kind, dialect, exported):
    _, artifact, folder = exported(kind, "nvfp4", dialect)
    found = load_file(folder / "model.safetensors")
    (module,) = (module for module in artifact.plan.quantized if module.spec == "experts")
    weights = artifact.modules[module.name].weights
    names = {
        "compressed-tensors": ("weight_global_scale", "weight_packed"),
        "modelopt": ("weight_scale_2", "weight"),
    }
    outer, codes = names[dialect]
    for expert in range(3):
        gate, up, down = (f"{WHERE[kind]}.{expert}.{part}_proj" for part in ("gate", "up", "down"))
        joined, alone = weights[f"gate_up_proj.{expert}"], weights[f"down_proj.{expert}"]
        assert torch.equal(torch.cat([found[f"{gate}.{codes}"], found[f"{up}.{codes}"]]), joined.qdata)
        scales = torch.cat([found[f"{name}.weight_scale"].view(torch.uint8) for name in (gate, up)])
        assert torch.equal(scales, joined.qparams.scale.view(torch.uint8))
        assert torch.equal(found[f"{down}.{codes}"], alone.qdata)
        assert torch.equal(found[f"{gate}.{outer}"], found[f"{up}.{outer}"])
    assert not any(tensor.dim() == 3 for tensor in found.values())


@pytest.mark.parametrize("recipe", ["fp8", "fp8_weight_only", "int4_weight_only"])
def test_transformers_opens_experts_that_it_takes_apart_itself_bit_for_bit(recipe, exported, ids):
    quantized, _, folder = exported("llama4", recipe)
    client = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        assert torch.equal(client(ids).logits, quantized(ids).logits)


@pytest.mark.parametrize("recipe", ["fp8", "int4_weight_only", "nvfp4"])
@pytest.mark.parametrize("kind", WHERE)
def test_our_quantizer_merges_them_again(kind, recipe, exported, ids, tmp_path):
    quantized, _, folder = exported(kind, recipe)
    with registered():
        opened = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits, expected = opened(ids).logits, quantized(ids).logits
    # see quantizer/test_experts.py for the reciprocals of NVFP4's outer scales
    assert torch.allclose(logits, expected, rtol=0, atol=4e-6 if recipe == "nvfp4" else 0)
    opened.save_pretrained(tmp_path / "again")
    before, after = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "again"))
    assert before.keys() == after.keys()


def test_a_stack_that_the_hub_interleaves_is_written_in_halves_beside_the_others(ids, registry, tmp_path):
    torch.manual_seed(0)
    sizes = {key: size for key, size in SIZES.items() if key not in ("intermediate_size", "num_local_experts")}
    config = Inkling2TextConfig(
        **sizes, moe_intermediate_size=64, n_routed_experts=3, num_experts_per_tok=2, head_dim=32, d_rel=8,
        swa_num_attention_heads=4, swa_num_key_value_heads=2, swa_head_dim=32, layer_types=["hybrid"],
    )  # fmt: skip
    model = Inkling2ForCausalLM(config).eval()
    recipe = {"include": ["fp8"], "rules": [{"modules": ["*conv*"], "skip": True}], "max_unquantized": 1.0}
    quantized = mtcore.quantize(model, recipe, [{"input_ids": ids}])
    export_model(quantized, tmp_path / "out", source=source_of(model), registry=registry)
    names = load_file(tmp_path / "out" / "model.safetensors")
    assert "model.llm.layers.0.mlp.experts.2.up_proj.weight_scale" in names
    with registered():
        opened = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    with torch.inference_mode():
        assert torch.equal(opened(ids).logits, quantized(ids).logits)
    rules = registry.lint_rules.values()
    report = lint(open_checkpoint(tmp_path / "out"), [registry.clients["transformers"]], rules)
    assert "experts-together" in {one.rule for one in report.findings}


def planned(kind, registry, ids, recipe="fp8"):
    model = model_of(kind)
    return plan_model(model, recipe, inputs={"input_ids": ids}, registry=registry), source_of(model)


def test_each_target_says_whether_it_opens_them(registry, ids):
    exporter = UnifiedExporter(registry.exporters)
    plan, source = planned("granite", registry, ids)
    assert not exporter.target(plan, "vllm", source).problems
    for client in ("hf", "sglang", "trtllm"):
        (problem,) = exporter.target(plan, client, source).problems
        assert problem.startswith(f"model.layers.0.block_sparse_moe.experts: {client}: the hub keeps these experts")
    plan, source = planned("llama4", registry, ids)
    assert not exporter.target(plan, "hf", source).problems


def test_a_dialect_by_name_notes_who_opens_them(registry, ids):
    exporter = UnifiedExporter(registry.exporters)
    for kind, reader in (("granite", "transformers alone does not open them"), ("llama4", "takes them apart too")):
        plan, source = planned(kind, registry, ids)
        (note,) = (note for note in exporter.target(plan, "modelopt", source).notes if "one tensor" in note)
        assert note.startswith(WHERE[kind])
        assert reader in note


def test_vllm_is_content_with_what_was_written(exported, registry):
    for kind in WHERE:
        _, _, folder = exported(kind, "nvfp4")
        report = lint(open_checkpoint(folder), [registry.clients["vllm"]], registry.lint_rules.values())
        assert not [one for one in report.findings if one.severity == "error"]


def test_lint_says_where_transformers_would_make_up_the_experts(exported, registry):
    for kind, found in (("granite", [WHERE["granite"]]), ("llama4", [])):
        _, _, folder = exported(kind, "fp8")
        report = lint(open_checkpoint(folder), [registry.clients["transformers"]], registry.lint_rules.values())
        assert [one.where for one in report.findings if one.rule == "experts-together"] == found
        _, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        assert {key.rpartition(".experts.")[0] + ".experts" for key in info["missing_keys"]} == set(found)


def test_experts_with_biases_are_refused_with_what_clients_take(registry, ids):
    plan, source = planned("gpt-oss", registry, ids)
    with pytest.raises(ExportError) as refused:
        UnifiedExporter(registry.exporters).check(plan, "compressed-tensors", source)
    (problem,) = refused.value.problems
    assert problem.startswith("model.layers.0.mlp.experts: ")
    for fact in ("gate_up_proj_bias, down_proj_bias beside their matrices", "vLLM 0.32", "transformers 5.23"):
        assert fact in problem


class Experts(nn.Module):
    def __init__(self, gate):
        super().__init__()
        self._apply_gate = gate


def pair(*names):
    shapes = (("gate_up_proj", (2, 16, 8)), ("down_proj", (2, 8, 8)), *((name, (2, 8)) for name in names))
    slot = SlotPlan("gate_up_proj", FP8_ROW, "static", "by hand")
    facts = (("gate_up_proj", (1,)), ("down_proj", (1,)))
    module = ModulePlan("mlp.experts", "Experts", "experts", shapes, (slot,), "by hand", facts=facts)
    return Pair(module, "gate_up_proj", slot, None, 16, 8, 2)


def silu_first(both):
    gates, ups = both.chunk(2, -1)
    return nn.functional.silu(gates) * ups


def test_halves_are_named_after_what_the_gate_does_with_them():
    assert taken_apart(Experts(silu_first), "x", pair())[:3] == (
        Piece("x.0.gate_proj", 0, (0, 8)),
        Piece("x.0.up_proj", 0, (8, 16)),
        Piece("x.1.gate_proj", 1, (0, 8)),
    )


@pytest.mark.parametrize(
    "gate",
    [
        lambda both: (
            nn.functional.silu(both.chunk(2, -1)[0].clamp(max=7)) * (both.chunk(2, -1)[1].clamp(-7, 7) + 1)
        ),
        lambda both: both.chunk(2, -1)[0].sigmoid() * 30 * (both.chunk(2, -1)[1] / 30).tanh(),
        lambda both: both.chunk(2, -1)[0].relu().square() * both.chunk(2, -1)[1],
    ],
    ids=["clamped", "capped", "squared"],
)
def test_gates_that_do_more_than_activate_and_multiply_are_two_halves(gate):
    assert taken_apart(Experts(gate), "x", pair())[0] == Piece("x.0.gate_proj", 0, (0, 8))


@pytest.mark.parametrize(
    "gate",
    [
        lambda both: silu_first(torch.cat([both[:, ::2], both[:, 1::2]], -1)),
        lambda both: silu_first(torch.cat(both.chunk(2, -1)[::-1], -1)),
        lambda both: silu_first(both) + 1,
        lambda both: both.chunk(2, -1)[0].exp() * both.chunk(2, -1)[1].sigmoid(),
        lambda both: silu_first(both).cumsum(-1),
        lambda both: both.chunk(2, -1)[0] * both.chunk(2, -1)[1],
        lambda both: both.view(3, -1),
    ],
    ids=["interleaved", "ups first", "never nothing", "both vanish", "mixed", "no activation", "another shape"],
)
def test_gates_that_are_no_two_halves_are_told(gate):
    assert "not two halves" in taken_apart(Experts(gate), "x", pair())


def test_what_lies_beside_the_matrices_is_told():
    assert "norm beside their matrices" in taken_apart(Experts(silu_first), "x", pair("norm"))


def test_a_module_that_does_not_say_what_its_gate_is_is_told():
    class Silent(nn.Module):
        def forward(self, tokens, routing):
            return tokens

    assert "not two halves" in taken_apart(Silent(), "x", pair())

"""What attention quantizes: a cache, queries beside it, and what no file has a place for, said beforehand."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import mtcore
from mtcore.export import SourceFiles, UnifiedExporter
from mtcore.flow import export_model
from mtcore.formats.catalog import FP8, INT8_ROW, NVFP4
from mtcore.lint import lint, open_checkpoint
from mtcore.plan import Coverage, ModulePlan, Plan, SlotPlan
from mtcore.plugins import Registry
from mtcore.quantization import plan_model, to_artifact
from mtopt_hf import ct, fp8, hooks, modelopt
from mtopt_hf.checkpoint.attention import attention_problems, query_slots
from mtopt_hf.ct.spelling import CACHES

CONFIG = LlamaConfig(
    vocab_size=64, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64,
)  # fmt: skip
ATTENTION = "model.layers.0.self_attn"


@pytest.fixture(scope="module")
def ids():
    return torch.randint(0, 64, (2, 16), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def registry():
    return Registry.load([hooks], discover=False)


@pytest.fixture(scope="module")
def exported(ids, registry, tmp_path_factory):
    """`exported(slots, dialect)`: the quantized model, its artifact, and the directory of its checkpoint."""

    def export(slots, dialect):
        torch.manual_seed(0)
        model = LlamaForCausalLM(CONFIG).eval()
        config = {**json.loads(CONFIG.to_json_string()), "architectures": ["LlamaForCausalLM"]}
        recipe = {"rules": [{"weight": "fp8_row", "input": "fp8_row", "modules": "*proj*"}, slots]}
        quantized = mtcore.quantize(model, {**recipe, "max_unquantized": 1.0}, [{"input_ids": ids}])
        folder = tmp_path_factory.mktemp("out") / "checkpoint"
        export_model(quantized, folder, dialect=dialect, source=SourceFiles(config), registry=registry)
        return quantized, to_artifact(quantized, SourceFiles(config)), folder

    return export


@pytest.mark.parametrize("slots", ["kv", "qkv"])
@pytest.mark.parametrize("fmt", ["fp8", "nvfp4"])
def test_transformers_runs_what_compressed_tensors_says_of_attention(slots, fmt, exported, ids):
    """Scales of FP8 are stored as they are. Of NVFP4 the reciprocal is, which may differ by 2^-23 of itself: block
    scales are rounded to E4M3 afterwards and come out alike here, so that logits differ by that much of a sum."""
    quantized, artifact, folder = exported(dict.fromkeys(slots, fmt), "compressed-tensors")
    found = load_file(folder / "model.safetensors")
    name = "scale" if fmt == "fp8" else "global_scale"
    assert {f"{ATTENTION}.{slot}_{name}" for slot in slots} <= found.keys()
    assert not ct.notes(artifact.plan)
    client = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        got, want = client(ids).logits, quantized(ids).logits
    if fmt == "fp8":
        assert torch.equal(got, want)
    else:
        torch.testing.assert_close(got, want, rtol=0, atol=2**-18 * float(want.abs().mean()))


@pytest.fixture(scope="module")
def cast(ids, registry, tmp_path_factory):
    """`cast(fmt, dialect, amax)`: a model whose cache is only cast, quantized without data, and its checkpoint."""

    def export(fmt, dialect, amax=448):
        torch.manual_seed(0)
        model = LlamaForCausalLM(CONFIG).eval()
        config = {**json.loads(CONFIG.to_json_string()), "architectures": ["LlamaForCausalLM"]}
        setting = {"format": fmt, "amax": amax}
        rules = [
            {"weight": "fp8_row", "input": "fp8_row", "modules": "*proj*"},
            {"k": setting, "v": setting},
        ]
        quantized = mtcore.quantize(model, {"rules": rules, "max_unquantized": 1.0}, inputs={"input_ids": ids})
        folder = tmp_path_factory.mktemp("cast") / "checkpoint"
        export_model(quantized, folder, dialect=dialect, source=SourceFiles(config), registry=registry)
        return quantized, folder

    return export


@pytest.mark.parametrize(("fmt", "amax", "stored"), [("fp8", 448, 1.0), ("nvfp4", 2688, 1.0), ("nvfp4", 448, 6.0)])
def test_a_cast_cache_needs_no_data_and_transformers_computes_it_alike(fmt, amax, stored, cast, ids):
    """Bit for bit where the scale is 1. 448 / 2688 is rounded, its divisor is not: see the test of scales above."""
    quantized, folder = cast(fmt, "compressed-tensors", amax)
    found = load_file(folder / "model.safetensors")
    name = "scale" if fmt == "fp8" else "global_scale"
    assert {float(found[f"{ATTENTION}.{slot}_{name}"]) for slot in "kv"} == {stored}
    client = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        got, want = client(ids).logits, quantized(ids).logits
    if stored == 1.0:
        assert torch.equal(got, want)
    else:
        torch.testing.assert_close(got, want, rtol=0, atol=2**-18 * float(want.abs().mean()))


def test_a_cast_cache_is_rounded_and_not_merely_declared(cast, ids):
    quantized, _ = cast("fp8", "compressed-tensors")
    with torch.inference_mode():
        rounded = quantized(ids).logits
        for layer in quantized.model.layers:
            layer.self_attn.k_quantizer.disable()
            layer.self_attn.v_quantizer.disable()
        assert not torch.equal(quantized(ids).logits, rounded)


@pytest.mark.parametrize(("fmt", "word"), [("fp8", "FP8"), ("nvfp4", "NVFP4")])
def test_modelopt_declares_a_cast_cache_with_scales_of_one_and_lint_is_silent(fmt, word, cast, registry):
    _, folder = cast(fmt, "modelopt")
    said = json.loads((folder / "hf_quant_config.json").read_text())["quantization"]
    assert said["kv_cache_quant_algo"] == word
    stored = load_file(folder / "model.safetensors")
    assert {float(stored[f"{ATTENTION}.{slot}_proj.{slot}_scale"]) for slot in "kv"} == {1.0}
    clients = [registry.clients[name] for name in ("vllm", "trtllm")]
    assert not lint(open_checkpoint(folder), clients, registry.lint_rules.values()).findings


def test_lint_is_silent_on_a_cast_cache_in_compressed_tensors(cast, registry):
    _, folder = cast("fp8", "compressed-tensors")
    assert not lint(open_checkpoint(folder), [registry.clients["vllm"]], registry.lint_rules.values()).findings


def test_queries_that_are_quantized_change_what_transformers_computes(exported, ids):
    opened = [exported(dict.fromkeys(slots, "fp8"), "compressed-tensors")[2] for slots in ("kv", "qkv")]
    with torch.inference_mode():
        first, second = (AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32)(ids).logits for f in opened)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dialect", ["compressed-tensors", "modelopt"])
def test_vllm_finds_the_scale_of_queries_beside_the_attention_and_lint_is_content(dialect, exported, registry):
    _, artifact, folder = exported(dict.fromkeys("qkv", "fp8"), dialect)
    scale = load_file(folder / "model.safetensors")[f"{ATTENTION}.q_scale"]
    assert float(scale) == pytest.approx(float(artifact.modules[ATTENTION].activations["q"].scale), rel=2 * 2**-24)
    report = lint(open_checkpoint(folder), [registry.clients["vllm"]], registry.lint_rules.values())
    assert not [one for one in report.findings if one.severity == "error"]


def attention(name, *slots, cls="LlamaAttention"):
    planned = tuple(SlotPlan(slot, fmt, mode, "the rule") for slot, fmt, mode in slots)
    return ModulePlan(name, cls, "attention", (), planned, "the rule")


def plan(*modules):
    slots = tuple(SlotPlan(slot, FP8, "static", "") for slot in ("weight", "input"))
    layer = ModulePlan("up", "Linear", "nn.Linear", (("weight", (256, 256)),), slots, "")
    return Plan("test", (layer, *modules), (), (), (), Coverage(1, 1, 0))


KV = [("k", FP8, "static"), ("v", FP8, "static")]
Q = ("q", FP8, "static")


def test_queries_are_said_of_all_attention_or_none():
    assert len(query_slots(plan(attention("a", Q, *KV), attention("b", Q, *KV)), CACHES)) == 2
    for made in (
        plan(attention("a", Q, *KV), attention("b", *KV)),
        plan(attention("a", Q)),
        plan(attention("a", ("q", FP8, "dynamic"), *KV)),
        plan(attention("a", ("q", NVFP4, "dynamic_blocks"), *KV)),
        plan(attention("a", ("q", INT8_ROW, "static"), *KV)),
        plan(attention("a", Q, *KV, cls="Mixer")),
    ):
        assert query_slots(made, CACHES) == ()
        assert not ct.check_plan(made)
        assert any("no place for queries in" in note for note in ct.notes(made))


def test_what_has_no_place_is_named_beforehand_by_every_dialect():
    made = plan(attention("a", *KV, ("softmax", FP8, "static")))
    for dialect in (ct, modelopt):
        assert not dialect.check_plan(made)
        (note,) = [note for note in dialect.notes(made) if "softmax" in note]
        assert note.startswith("a: ")
        assert "no place for softmax in fp8; clients leave them as they are" in note
    assert fp8.notes(plan(attention("a", Q))) == (
        "a: fp8 has no place for queries in fp8; clients leave them as they are",
    )


def test_a_plan_of_which_nothing_is_left_is_refused():
    made = Plan("test", (attention("a", ("softmax", FP8, "static")),), (), (), (), Coverage(1, 1, 0))
    assert list(attention_problems(made, "gptq", ())) == [
        "gptq has no place for anything that the rule quantizes, so nothing would be quantized"
    ]


def test_a_cache_in_nvfp4_goes_to_the_servers_in_the_dialect_that_they_run(registry):
    slots = [(slot, NVFP4, "dynamic_blocks") for slot in "kv"]
    made = Plan("test", (attention("a", *slots),), (), (), (), Coverage(1, 1, 0))
    (problem,) = ct.client_problems("vllm", made)
    assert problem == "a: vllm: a KV cache of this dialect in fp8 only, not in nvfp4 (the rule)"
    assert not ct.client_problems("hf", made)
    exporter = UnifiedExporter(registry.exporters)
    assert (exporter.target(made, "vllm").dialect, exporter.target(made, "hf").dialect) == (
        "modelopt",
        "compressed-tensors",
    )


def test_a_cache_of_some_layers_only_is_refused_for_clients_would_make_up_the_other_scales(registry, ids):
    model = LlamaForCausalLM(CONFIG)
    rules = [
        {"weight": "fp8_row", "input": "fp8_row", "modules": "*proj*"},
        {"modules": "*layers.0*", "k": "fp8", "v": "fp8"},
    ]
    made = plan_model(model, {"rules": rules, "max_unquantized": 1.0}, inputs={"input_ids": ids}, registry=registry)
    for dialect in (ct, modelopt):
        (problem,) = dialect.check_plan(made)
        assert problem.startswith("model.layers.1.self_attn: ")
        assert "the cache of all layers or none" in problem

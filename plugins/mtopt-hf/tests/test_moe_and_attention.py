"""Fused experts and attention of transformers' models: found whichever implementation runs, with one result."""

import dataclasses

import pytest
import torch
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

import mtcore
from mtcore.calibration import as_forward_loop
from mtcore.calibration.top_up import count_tokens
from mtcore.formats import builtin_formats
from mtcore.nn import TensorQuantizer, builtin_quant_modules
from mtcore.plan import make_plan
from mtcore.plugins import Registry
from mtcore.quantization import apply_plan, convert, quantized_of
from mtcore.recipe import load_config
from mtcore.recipe.setting import AlgorithmStep, ExpertsSetting, QuantizeConfig, SlotRule, SlotSetting
from mtcore.trace import analyze

SPECS = {spec.name: spec for spec in builtin_quant_modules()}
FORMATS = {fmt.name: fmt for fmt in builtin_formats()}
SIZES = {
    "vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
MODELS = {
    "qwen2": (Qwen2MoeForCausalLM, Qwen2MoeConfig, {"moe_intermediate_size": 32, "num_experts": 4}, 1),
    "qwen3": (Qwen3MoeForCausalLM, Qwen3MoeConfig, {"moe_intermediate_size": 32, "num_experts": 4}, 1),
    "mixtral": (MixtralForCausalLM, MixtralConfig, {"num_local_experts": 4}, 1),
    "gpt-oss": (GptOssForCausalLM, GptOssConfig, {"num_local_experts": 4, "head_dim": 16}, 2),
}
"""Model, configuration, its options, and the axis of the output channels in its stacked weights."""

IDS = torch.arange(12).view(1, 12)


def model_of(name: str, attention: str, experts: str):
    cls, config, options, _ = MODELS[name]
    torch.manual_seed(0)
    model = cls(config(**SIZES, num_experts_per_tok=2, **options, attn_implementation=attention)).eval()
    model.set_experts_implementation(experts)
    return model


def rule(pattern: str, fmt: str | None, mode: str = "dynamic") -> SlotRule:
    setting = None if fmt is None else SlotSetting(FORMATS[fmt], mode)
    return SlotRule(pattern, setting, fmt is not None, f"rule {pattern}")


CONFIG = QuantizeConfig(
    "test",
    (
        rule("*weight_quantizer", "nvfp4", "static"),
        rule("*input_quantizer", "fp8_row"),
        rule("*.[kv]_quantizer", "fp8"),
        *(rule(pattern, None) for pattern in ("*lm_head*", "*gate.*", "*router*")),
    ),
    max_unquantized=0.15,
)
IMPLEMENTATIONS = [("sdpa", "grouped_mm"), ("eager", "eager"), ("eager", "batched_mm")]


@pytest.fixture(scope="module")
def expected():
    """Logits of each quantized model in its first implementation, kept by name."""
    return {}


@pytest.mark.parametrize(("attention", "experts"), IMPLEMENTATIONS)
@pytest.mark.parametrize("name", MODELS)
def test_every_implementation_gives_one_quantized_result(name, attention, experts, expected):
    if name == "gpt-oss" and attention == "sdpa":
        attention = "eager"  # it has no other one on a CPU
    model = model_of(name, attention, experts)
    plain = model(IDS).logits
    trace = analyze(model, {"input_ids": IDS})
    assert {weight.channel_axis for weight in trace.stacked} == {MODELS[name][3]}
    plan = make_plan(model, CONFIG, SPECS, trace)
    assert not plan.errors
    slots = {m.name: {s.slot for s in m.slots} for m in plan.quantized}
    assert slots["model.layers.1.self_attn"] == {"k", "v"}
    assert slots["model.layers.1.mlp.experts"] == {
        "gate_up_proj", "down_proj", "gate_up_proj_input", "down_proj_input",
    }  # fmt: skip
    _, journal = convert(model, plan, SPECS)
    logits = model(IDS).logits
    assert not torch.allclose(logits, plain, atol=1e-3)
    # The same numbers in another order of sums; a value on the edge of a code may move by one step.
    assert torch.allclose(logits, expected.setdefault(name, logits), atol=1e-3)
    for module in model.modules():
        if isinstance(module, TensorQuantizer):
            module.disable()
    assert torch.equal(model(IDS).logits, plain)
    journal.undo()
    assert torch.equal(model(IDS).logits, plain)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_generation_with_a_cache_goes_through_the_quantized_attention(attention):
    model = model_of("qwen3", attention, "grouped_mm")
    plan = make_plan(model, CONFIG, SPECS, analyze(model, {"input_ids": IDS}))
    convert(model, plan, SPECS)
    for module in model.modules():
        if isinstance(module, TensorQuantizer):
            module.disable()
    quantizer = model.model.layers[0].self_attn.k_quantizer
    seen = []

    class Spy:
        def update(self, matrix):
            seen.append(matrix.shape)

    quantizer.observer = Spy()
    tokens = model.generate(IDS, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    assert tokens.shape == (1, 16)
    assert len(seen) == 4


@pytest.mark.parametrize("name", MODELS)
def test_every_implementation_counts_the_same_tokens_of_every_expert(name):
    """Every token goes to two of four experts; nothing is rounded meanwhile, so that the choices are those of the
    plain model, but for a tie that another order of sums decides."""
    found = []
    for experts in ("eager", "batched_mm", "grouped_mm"):
        model = model_of(name, "eager", experts)
        plan = make_plan(model, CONFIG, SPECS, analyze(model, {"input_ids": IDS}))
        convert(model, plan, SPECS)
        counted = count_tokens(model, plan, as_forward_loop([{"input_ids": IDS}]), around=True)
        groups = [group for group in counted if group.stacked]
        assert [group.owner for group in groups] == ["model.layers.0.mlp.experts", "model.layers.1.mlp.experts"]
        assert [group.around for group in groups] == ["model.layers.0.mlp", "model.layers.1.mlp"]
        found.append([dict(group.tokens) for group in groups])
    assert all(sum(tokens.values()) == 2 * IDS.numel() for tokens in found[0])
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("experts", ["eager", "batched_mm", "grouped_mm"])
def test_starved_experts_of_every_implementation_are_given_all_tokens(experts):
    """Two tokens leave experts unseen; with all tokens, the input of the second product reaches as far as that of
    the loudest expert on any of them."""
    config = dataclasses.replace(
        CONFIG,
        rules=(
            rule("*weight_quantizer", "fp8", "static"),
            rule("*input_quantizer", "fp8", "static"),
            *CONFIG.rules[3:],
        ),
        algorithm=(AlgorithmStep("max"),),
        experts=ExpertsSetting(when_starved="all_experts"),
    )
    model, ids = model_of("qwen3", "eager", experts), IDS[:, :2]
    registry = Registry.load(discover=False)
    plan = make_plan(model, config, SPECS, analyze(model, {"input_ids": IDS}))
    apply_plan(model, plan, [{"input_ids": ids}], registry=registry, summary=True)
    starved = quantized_of(model).summary.starved
    assert starved
    assert all(expert.remedy == "it was given all tokens of the data" for expert in starved)
    first = model.model.layers[0].mlp.experts
    plain = model_of("qwen3", "eager", "eager")
    seen = []
    plain.model.layers[0].mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0].flatten(0, 1)))
    plain(ids)
    gate, up = (seen[0] @ plain.model.layers[0].mlp.experts.gate_up_proj.mT).chunk(2, -1)
    inner = torch.nn.functional.silu(gate) * up  # [experts, tokens, inner]
    torch.testing.assert_close(first.down_proj_input_quantizer.amax.flatten()[0], inner.abs().max())


LATENT = {
    "n_routed_experts": 8, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "moe_intermediate_size": 32,
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16,
    "num_key_value_heads": 4,
}  # fmt: skip


def router_model(name: str):
    if name != "deepseek":
        return model_of(name, "eager", "grouped_mm")
    torch.manual_seed(0)
    return DeepseekV3ForCausalLM(DeepseekV3Config(**SIZES | LATENT, num_experts_per_tok=2)).eval()


@pytest.mark.parametrize(
    ("name", "routers"),
    [
        ("mixtral", {"model.layers.0.mlp.gate", "model.layers.1.mlp.gate"}),
        ("qwen2", {"model.layers.0.mlp.gate", "model.layers.1.mlp.gate"}),
        ("deepseek", {"model.layers.1.mlp.gate"}),
        ("gpt-oss", {"model.layers.0.mlp.router", "model.layers.1.mlp.router"}),
    ],
)
def test_routers_found_by_their_use_are_those_that_names_tell(name, routers):
    model = router_model(name)
    trace = analyze(model, IDS)
    assert {router.module for router in trace.routers} == routers
    registry = Registry.load(discover=False)
    config = load_config("fp8_row", formats=registry.formats, recipes=registry.recipes)
    by_name = dataclasses.replace(config, rules=tuple(rule for rule in config.rules if rule.role is None))
    left, left_by_name = (
        {module.name for module in make_plan(model, one, SPECS, trace) if not module.quantized}
        for one in (config, by_name)
    )
    assert len(by_name.rules) < len(config.rules)
    assert left == left_by_name >= routers


@torch.no_grad()
@pytest.mark.parametrize("experts", ["eager", "batched_mm", "grouped_mm"])
@pytest.mark.parametrize("name", MODELS)
def test_gptq_rounds_stacked_experts_better_than_max_in_every_implementation(name, experts):
    """By the squared error of the logits, where the experts' weights alone are rounded."""
    ids = torch.randint(0, 64, (4, 4, 48), generator=torch.Generator().manual_seed(1))
    batches = [{"input_ids": batch, "use_cache": False} for batch in ids]
    wanted = [model_of(name, "eager", experts)(**batch).logits for batch in batches]
    errors = {}
    for method in ("max", "gptq"):
        model = model_of(name, "eager", experts)
        rules = [{"modules": "*experts", "weight": "int4_b32"}]
        recipe = {"rules": rules, "algorithm": method, "max_unquantized": 1.0}
        quantized = mtcore.quantize(model, recipe, batches)
        logits = [quantized(**batch).logits for batch in batches]
        errors[method] = sum(float((y - x).square().sum()) for x, y in zip(wanted, logits, strict=True))
    assert errors["gptq"] < errors["max"]

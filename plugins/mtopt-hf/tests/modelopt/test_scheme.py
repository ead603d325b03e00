"""What cannot be written is refused before the run, by module and format; what a client lacks, by algorithm."""

from dataclasses import replace

import pytest

from mtcore.formats.catalog import FP8, FP8_ROW, FP8_TILE, INT4_B128, INT8_ROW, INT8_TENSOR, NVFP4, NVFP4_FP8
from mtcore.formats.integers import int_block_asym
from mtcore.plan import Coverage, ModulePlan, Plan, SlotPlan
from mtopt_hf.modelopt import check_plan, client_problems, notes
from mtopt_hf.modelopt.scheme import spelling_of


def module(name, *slots, spec="nn.Linear", shape=(256, 128)):
    planned = tuple(SlotPlan(slot, fmt, mode, f"rule of {slot}") for slot, fmt, mode in slots)
    return ModulePlan(name, "Linear", spec, (("weight", shape),), planned, "by hand")


def plan(*modules):
    return Plan("by hand", modules, (), (), (), Coverage(1, 1, 0))


def attention(name, *slots):
    return module(name, *slots, spec="attention")


def test_a_pair_that_it_lacks_is_named_with_the_pairs_that_it_has():
    (problem,) = check_plan(plan(module("up", ("weight", int_block_asym(4, 128), "static"))))
    assert "up: format int4_b128_asym (weight, rule of weight) with inputs that are not quantized" in problem
    assert "nvfp4 + fp8" not in problem
    assert "nvfp4_fp8 + fp8" in problem


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ([("weight", FP8, "static")], "format fp8 (weight, rule of weight) with inputs that are not quantized"),
        ([("weight", FP8, "static"), ("input", FP8, "dynamic")], "inputs in fp8 are static in modelopt"),
        ([("weight", NVFP4, "static"), ("input", FP8, "static")], "(weight, rule of weight) with inputs in fp8"),
        ([("input", FP8, "static")], "without a quantized weight"),
        ([("weight", FP8_ROW, "static"), ("input", FP8_ROW, "dynamic"), ("output", FP8, "static")], "output quant"),
    ],
)  # fmt: skip
def test_refusals(slots, message):
    assert message in "; ".join(check_plan(plan(module("up", *slots))))


@pytest.mark.parametrize(
    ("fmt", "shape", "message"),
    [
        (INT4_B128, (256, 192), "in_features 192 is not a multiple of 128"),
        (INT4_B128, (255, 128), "out_features 255 is not a multiple of 2"),
        (FP8_TILE, (320, 128), "out_features 320 is not a multiple of 128"),
        (NVFP4, (256, 40), "in_features 40 is not a multiple of 16"),
    ],
)
def test_shapes_that_the_layout_cannot_hold_are_refused(fmt, shape, message):
    (problem,) = check_plan(plan(module("up", ("weight", fmt, "static"), shape=shape)))
    assert message in problem
    assert fmt.name in problem


def test_formats_that_store_the_same_but_land_elsewhere_are_told_apart():
    weight, given = (SlotPlan("weight", NVFP4_FP8, "static", ""), SlotPlan("input", FP8, "static", ""))
    assert spelling_of(weight, given).algo == "W4A8_NVFP4_FP8"
    assert check_plan(plan(module("up", ("weight", NVFP4_FP8, "static"))))  # 448 is no W4A16_NVFP4


def test_a_cache_needs_keys_and_values_in_one_known_format():
    both = [("k", FP8, "static"), ("v", FP8, "static")]
    assert not check_plan(plan(attention("layers.0", *both)))
    assert "quantizes keys and values, or neither" in check_plan(plan(attention("layers.0", both[0])))[0]
    assert "int8_row" in check_plan(plan(attention("a", ("k", INT8_ROW, "dynamic"), ("v", INT8_ROW, "dynamic"))))[0]
    mixed = plan(attention("layers.0", *both), attention("layers.1", *((s, NVFP4, "dynamic_blocks") for s in "kv")))
    assert "one format for the whole KV cache, not fp8, nvfp4" in check_plan(mixed)[0]


@pytest.mark.parametrize(
    ("slots", "vllm", "trtllm"),
    [
        ([("weight", NVFP4, "static"), ("input", NVFP4, "dynamic_blocks")], True, True),
        ([("weight", NVFP4, "static")], True, False),
        ([("weight", INT4_B128, "static")], False, True),
        ([("weight", INT8_ROW, "static"), ("input", INT8_TENSOR, "static")], False, False),
    ],
)
def test_clients_refuse_algorithms_that_they_do_not_run(slots, vllm, trtllm):
    one = plan(module("up", *slots))
    assert not check_plan(one)
    for client, runs in {"vllm": vllm, "trtllm": trtllm}.items():
        problems = client_problems(client, one)
        assert bool(problems) != runs
        assert all(problem.startswith(f"up: {client} does not run ") for problem in problems)


def test_experts_that_vllm_takes_with_one_scale_only_are_named():
    slots = (
        SlotPlan("up_proj", FP8_ROW, "static", "the rule"),
        SlotPlan("up_proj_input", FP8_ROW, "dynamic", "the rule"),
    )
    experts = ModulePlan("mlp.experts", "Experts", "experts", (("up_proj", (4, 256, 128)),), slots, "", True)
    experts = replace(experts, facts=(("up_proj", (1,)),))
    assert not check_plan(plan(experts))
    (problem,) = client_problems("vllm", plan(experts))
    assert problem == (
        "mlp.experts: vllm does not run experts in FP8_PER_CHANNEL_PER_TOKEN of modelopt checkpoints "
        "(its experts take one FP8 scale a matrix in this dialect)"
    )
    assert not client_problems("trtllm", plan(experts))


@pytest.mark.parametrize(
    ("fmt", "note"),
    [(FP8_TILE, "servers round its inputs"), (INT4_B128, "a pre_quant_scale of ones is added")],
)
def test_what_the_dialect_adds_or_means_is_noted(fmt, note):
    (said,) = notes(plan(module("up", ("weight", fmt, "static"))))
    assert note in said
    assert not notes(plan(module("up", ("weight", NVFP4, "static"))))

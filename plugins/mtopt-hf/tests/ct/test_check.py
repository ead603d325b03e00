"""What cannot be written is refused before the run, by module and format name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mtcore.formats import IntElement, TensorFormat
from mtcore.formats.catalog import FP8, FP8_ROW, INT8_ROW, INT8_TENSOR, MXFP6_E2M3, NVFP4
from mtcore.formats.integers import int_block
from mtcore.plan import Coverage, ModulePlan, Plan, SlotPlan
from mtcore.recipe.setting import Mode
from mtopt_hf.ct import check_plan, client_problems, notes
from mtopt_hf.formats import int_row

ODD = replace(INT8_TENSOR, name="int5", element=IntElement(5), aliases=())


def module(
    name: str, *slots: tuple[str, TensorFormat, Mode], spec: str = "nn.Linear", cols: int = 64
) -> ModulePlan:
    planned = tuple(SlotPlan(slot, fmt, mode, f"rule of {slot}") for slot, fmt, mode in slots)
    return ModulePlan(name, "Linear", spec, (("weight", (32, cols)),), planned, "by hand")


def problems(*modules: ModulePlan) -> list[str]:
    return list(check_plan(Plan("by hand", modules, (), (), (), Coverage(1, 1, 0))))


@pytest.mark.parametrize(
    "slots",
    [
        [("weight", FP8, "static"), ("input", FP8, "static")],
        [("weight", FP8, "static"), ("input", FP8, "dynamic")],
        [("weight", FP8_ROW, "static"), ("input", FP8_ROW, "dynamic")],
        [("weight", FP8_ROW, "static")],
        [("weight", INT8_ROW, "static"), ("input", INT8_ROW, "dynamic")],
        [("weight", INT8_ROW, "static")],
        [("weight", NVFP4, "static"), ("input", NVFP4, "dynamic_blocks")],
        [("weight", NVFP4, "static")],
    ],
)
def test_what_the_dialect_holds_is_no_problem(slots: list[tuple[str, TensorFormat, Mode]]) -> None:
    assert problems(module("a", *slots), module("kept")) == []


def test_unknown_format_names_module_format_rule_and_what_is_known() -> None:
    (problem,) = problems(module("layers.0.up", ("weight", ODD, "static")))
    assert problem.startswith("layers.0.up: format int5 (weight, rule of weight)")
    assert "nvfp4" in problem


def test_many_modules_with_one_problem_are_one_line() -> None:
    (problem,) = problems(*(module(f"layers.{n}", ("weight", ODD, "static")) for n in range(40)))
    assert problem.startswith("layers.0, layers.1, layers.2 and 37 more: ")


def test_output_quantizer_is_refused() -> None:
    slots = [(slot, FP8, "static") for slot in ("weight", "input", "output")]
    (problem,) = problems(module("a", *slots))
    assert "output quantizers" in problem


def test_input_without_weight_is_refused() -> None:
    assert "without a quantized weight" in problems(module("a", ("input", FP8, "static")))[0]


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_mode_that_the_dialect_lacks_is_refused(mode: Mode) -> None:
    (problem,) = problems(module("a", ("weight", NVFP4, "static"), ("input", NVFP4, mode)))
    assert f"dynamic_blocks in compressed-tensors, not {mode}" in problem


def test_families_do_not_mix_in_one_module() -> None:
    (problem,) = problems(module("a", ("weight", NVFP4, "static"), ("input", FP8, "static")))
    assert "does not pair weights in nvfp4" in problem


def test_per_tensor_int8_alone_is_refused() -> None:
    assert "quantize the input too" in problems(module("a", ("weight", INT8_TENSOR, "static")))[0]


def test_columns_that_blocks_do_not_divide_are_refused() -> None:
    (problem,) = problems(module("a", ("weight", NVFP4, "static"), cols=72))
    assert "in_features 72 is not a multiple of 16" in problem


def test_convolution_is_refused() -> None:
    assert "linear layers and experts only" in problems(module("a", ("weight", FP8, "static"), spec="nn.Conv2d"))[0]


def test_all_problems_come_together() -> None:
    found = problems(module("a", ("weight", ODD, "static")), module("b", ("weight", INT8_TENSOR, "static")))
    assert [problem[:2] for problem in found] == ["a:", "b:"]


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ([("weight", MXFP6_E2M3, "static")], "no scheme for 6-bit floats"),
        ([("weight", int_block(5, 128), "static")], "no weight-only kernel for 5 bits; it has 2, 3, 4, 8"),
        (
            [("weight", int_block(4, 128), "static"), ("input", INT8_TENSOR, "static")],
            "the inputs one a token",
        ),
        ([("weight", int_row(4), "static"), ("input", FP8_ROW, "dynamic")], "give the weights blocks"),
        ([("weight", INT8_ROW, "static"), ("input", INT8_TENSOR, "dynamic")], "make it static, or one a token"),
    ],
)
def test_what_servers_do_not_run_is_named_for_them_alone(
    slots: list[tuple[str, TensorFormat, Mode]], message: str
) -> None:
    plan = Plan("by hand", (module("up", *slots, cols=128),), (), (), (), Coverage(1, 1, 0))
    assert not check_plan(plan)
    for client in ("vllm", "sglang"):
        (problem,) = client_problems(client, plan)
        assert problem.startswith(f"up: {client}: ")
        assert message in problem
    assert not client_problems("hf", plan)


def test_what_the_dialect_says_otherwise_is_noted() -> None:
    def said(fmt: TensorFormat) -> str:
        plan = Plan("by hand", (module("up", ("weight", fmt, "static")),), (), (), (), Coverage(1, 1, 0))
        return "; ".join(notes(plan))

    assert "stored as reciprocals" in said(NVFP4)
    assert "names bfloat16" in said(NVFP4)
    assert not said(FP8_ROW)

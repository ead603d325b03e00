"""A plan as people read it."""

import dataclasses
import io

import pytest
from rich.console import Console

from mtcore.cli.plan_view import draw_plan, group_rows, module_rows
from mtcore.plan import Finding, ScaleGroup


@pytest.fixture
def drawn():
    def draw(plan, **options):
        out = io.StringIO()
        draw_plan(Console(file=out, width=200), plan, **options)
        return out.getvalue()

    return draw


def test_identical_layers_share_a_line_with_their_number(plan):
    rows = module_rows(plan.modules, every_module=False)
    assert [row[:2] for row in rows] == [
        ("layers.[0-3].q_proj", "4"),
        ("layers.[0-3].k_proj", "4"),
        ("lm_head", "1"),
    ]


def test_every_module_has_a_line_when_asked_for(plan):
    rows = module_rows(plan.modules, every_module=True)
    assert [row[0] for row in rows] == [module.name for module in plan.modules]


def test_a_layer_that_is_treated_differently_has_a_line_of_its_own(plan):
    odd = dataclasses.replace(plan.modules[2], slots=(), reason="left as it is by rule #3")
    rows = module_rows((*plan.modules[:2], odd, *plan.modules[3:]), every_module=False)
    assert ("layers.1.q_proj", "1") in [row[:2] for row in rows]
    assert ("layers.[0,2-3].q_proj", "3") in [row[:2] for row in rows]


def test_the_reason_and_the_formats_are_shown(plan, drawn):
    text = drawn(plan)
    assert "weight nvfp4 (static)" in text
    assert "input nvfp4 (dynamic_blocks)" in text
    assert "left as it is by rule #2 of recipe nvfp4" in text


def test_a_slot_with_a_constant_amax_is_said_to_need_no_calibration(plan, drawn):
    first = next(module for module in plan.modules if module.slots)
    cast = dataclasses.replace(
        first, slots=(*first.slots[:-1], dataclasses.replace(first.slots[-1], mode="static", amax=448.0))
    )
    text = drawn(dataclasses.replace(plan, modules=(cast,)))
    assert "(static, amax 448: no calibration)" in text


def test_findings_shared_scales_and_coverage_are_shown(plan, drawn):
    text = drawn(plan)
    assert "warning layers.3.q_proj: was not called by the example inputs" in text
    assert "they read one value" in text
    assert "50.0% of the matrix weights quantized (16,384 of 32,768 elements)" in text


def test_unexplained_weights_are_counted(plan, drawn):
    bare = dataclasses.replace(plan, coverage=dataclasses.replace(plan.coverage, unexplained=77))
    assert "77 untouched although no rule says so" in drawn(bare)


def test_slots_that_the_same_modules_share_stand_in_one_row():
    groups = [
        ScaleGroup(
            f"{slot}{i}", slot, (f"layers.{i}.q", f"layers.{i}.k"), f"they read one value (layers.{i}.{{q,k}})"
        )
        for i in range(3)
        for slot in ("weight", "input")
    ]
    rows = group_rows(groups, every_module=False)
    assert rows == [
        ("layers.[0-2].q\nlayers.[0-2].k", "3", "weight, input", "they read one value (layers.[0-2].{q,k})")
    ]


def test_groups_whose_slots_differ_do_not_share_a_row():
    groups = [ScaleGroup(f"g{i}", "weight", (f"layers.{i}.q", f"layers.{i}.k"), "why") for i in range(2)]
    groups.append(ScaleGroup("input", "input", groups[0].modules, "why"))
    assert [row[1:3] for row in group_rows(groups, every_module=False)] == [("1", "weight, input"), ("1", "weight")]


def test_one_finding_of_many_layers_is_one_line_unless_all_are_asked_for(plan, drawn):
    many = tuple(Finding("warning", f"layers.{number}.up", "is odd") for number in range(40))
    noted = dataclasses.replace(plan, findings=many)
    assert drawn(noted).count("is odd") == 1
    assert "warning layers.[0-39].up: is odd" in drawn(noted)
    assert drawn(noted, every_module=True).count("is odd") == 40


def test_notes_are_counted_and_shown_on_request(plan, drawn):
    noted = dataclasses.replace(plan, findings=(Finding("note", "rule #7", "matches nothing"),) * 3)
    assert "matches nothing" not in drawn(noted)
    assert "3 notes" in drawn(noted)
    assert drawn(noted, every_module=True).count("note rule #7: matches nothing") == 3


def test_branches_and_scales_on_layers_are_shown_and_counted(plan, drawn):
    rank = dataclasses.replace(plan.modules[0], low_rank=8192, pre_quant_scale=True)  # 2 · 8192 · (64 + 32) bytes
    text = drawn(dataclasses.replace(plan, modules=(rank, *plan.modules[1:])))
    assert "branch of rank 8192 in 16 bits (1.5 MiB)" in text
    assert "input scaled on the layer (pre_quant_scale)" in text
    assert "low-rank branches in 16 bits: 1 modules, 1.5 MiB in all" in text
    assert "scales of inputs that no fold takes (pre_quant_scale): 1 modules keep them" in text

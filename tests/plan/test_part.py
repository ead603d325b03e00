"""A plan that leaves some modules as they are says nothing more of them."""

from dataclasses import replace

from mtcore.plan import Finding, make_plan, without
from mtcore.trace import analyze


def test_modules_that_are_left_take_their_groups_and_findings_with_them(model, batch, make_config, specs):
    config = make_config({"*weight_quantizer": "nvfp4"})
    plan = make_plan(model, config, specs, analyze(model, batch))
    plan = replace(plan, findings=(Finding("error", "0.gate", "no"), Finding("error", "1.gate", "no")))
    left = without(plan, {"0.gate", "0.up"})
    assert not left["0.gate"].quantized
    assert left["0.down"] == plan["0.down"]
    assert [group.modules for group in plan.groups] == [("0.gate", "0.up"), ("1.gate", "1.up")]
    assert [group.modules for group in left.groups] == [("1.gate", "1.up")]
    assert [finding.where for finding in left.findings] == ["1.gate"]


def test_of_a_group_that_is_cut_the_rest_stands_alone(model, batch, make_config, specs):
    plan = make_plan(model, make_config({"*weight_quantizer": "nvfp4"}), specs, analyze(model, batch))
    assert plan["0.up"].slots[0].group
    assert without(plan, {"0.gate"})["0.up"].slots[0].group is None

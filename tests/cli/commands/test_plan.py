"""`mtopt plan`, on a run that is replaced by a given plan."""

import dataclasses
import json

import pytest

from mtcore.plan import Finding, plan_to_dict


@pytest.fixture
def asked(monkeypatch, registry, plan):
    """What the command asks the flow for; the flow answers with `asked["plan"]`."""
    seen = {"plan": plan}

    def plan_checkpoint(source, recipe, **options):
        seen.update(source=source, recipe=recipe, **options)
        return seen["plan"]

    monkeypatch.setattr("mtcore.flow.plan_checkpoint", plan_checkpoint)
    return seen


def test_the_plan_is_drawn(asked, mtopt):
    shown = mtopt("plan", "somewhere", "--recipe", "nvfp4")
    assert shown.code == 0
    assert "layers.[0-3].q_proj" in shown.out
    assert asked["source"] == "somewhere"
    assert asked["recipe"].name == "nvfp4"


def test_all_gives_every_module_a_line(asked, mtopt):
    assert "layers.2.k_proj" in mtopt("plan", "somewhere", "--recipe", "nvfp4", "--all").out


def test_json_is_the_plan_itself(asked, plan, mtopt):
    shown = mtopt("plan", "somewhere", "--recipe", "nvfp4", "--json")
    assert json.loads(shown.out) == json.loads(json.dumps(plan_to_dict(plan)))


def test_a_plan_with_errors_is_shown_and_fails(asked, plan, mtopt):
    error = Finding("error", "lm_head", "1000 input features are not a multiple of block 16")
    asked["plan"] = dataclasses.replace(plan, findings=(error,))
    shown = mtopt("plan", "somewhere", "--recipe", "nvfp4")
    assert shown.code == 1
    assert "error lm_head: 1000 input features are not a multiple of block 16" in shown.out


def test_the_line_can_change_the_recipe(asked, mtopt):
    mtopt("plan", "somewhere", "--recipe", "nvfp4", "--max-unquantized", "0.25", "--set", "algorithm=null")
    assert asked["recipe"].max_unquantized == 0.25


def test_a_share_beyond_one_is_a_usage_error(asked, mtopt):
    assert mtopt("plan", "somewhere", "--recipe", "nvfp4", "--max-unquantized", "50").code == 2

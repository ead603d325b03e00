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


@pytest.fixture
def reached(monkeypatch, registry, plan):
    """The flow's answer for targets: vllm can be reached, trtllm cannot."""
    from mtcore.export import Target
    from mtcore.flow import Estimate, Rehearsal
    from mtcore.lint import LintReport, Reading

    report = LintReport("x", (), {"vllm": Reading("nvfp4", "Marlin")})
    answers = {
        "vllm": Rehearsal(Target("vllm", "compressed-tensors"), {"model.safetensors": 2_500_000}, report),
        "trtllm": Rehearsal(Target("trtllm", "modelopt", problems=("lm_head: it has no such format",)), {}),
    }
    needs = Estimate(10_000_000, 30_000_000, 5.0, 1.0, 16384, ("awq",))

    def plan_for_targets(source, recipe, targets, **options):
        return plan, tuple(answers[name] for name in targets or recipe.targets), needs

    monkeypatch.setattr("mtcore.flow.plan_for_targets", plan_for_targets)


def test_a_target_that_can_be_reached_is_shown_with_size_memory_and_time(reached, mtopt):
    shown = mtopt("plan", "somewhere", "--recipe", "nvfp4", "--to", "vllm")
    assert shown.code == 0
    assert "vllm (compressed-tensors): 2.5 MB in 1 files" in shown.out
    assert "runs as nvfp4: Marlin" in shown.out
    assert "30.0 MB of memory" in shown.out
    assert "6 s (5 s for 16,384 tokens, 1 s to round)" in shown.out
    assert "The time of awq, which search, comes on top." in shown.out


def test_a_target_that_cannot_be_reached_says_why_and_fails(reached, mtopt):
    shown = mtopt("plan", "somewhere", "--recipe", "nvfp4", "--to", "vllm,trtllm")
    assert shown.code == 1
    assert "trtllm (modelopt): cannot be reached" in shown.out
    assert "lm_head: it has no such format" in shown.out


def test_json_has_targets_and_the_estimate_beside_the_plan(reached, plan, mtopt):
    found = json.loads(mtopt("plan", "somewhere", "--recipe", "nvfp4", "--to", "vllm,trtllm", "--json").out)
    assert [target["problems"] for target in found["targets"]] == [[], ["lm_head: it has no such format"]]
    assert found["estimate"]["seconds"] == 6.0
    assert found["recipe"] == plan_to_dict(plan)["recipe"]


def test_the_targets_of_the_recipe_are_shown_without_being_asked_for(reached, mtopt):
    shown = mtopt("plan", "somewhere", "--recipe", "nvfp4", "--set", "targets=[vllm, trtllm]")
    assert "vllm (compressed-tensors): 2.5 MB in 1 files" in shown.out
    assert "trtllm (modelopt): cannot be reached" in shown.out
    assert "trtllm" not in mtopt("plan", "m", "--recipe", "nvfp4", "--set", "targets=trtllm", "--to", "vllm").out


def test_a_dialect_on_the_line_goes_before_the_targets_of_the_recipe(asked, mtopt):
    shown = mtopt("plan", "m", "--recipe", "nvfp4", "--set", "targets=vllm", "--dialect", "modelopt")
    assert (shown.code, asked["dialect"]) == (0, "modelopt")

"""A plan for a dialect says beforehand what layers will hold, and what the dialect refuses."""

from dataclasses import replace

import pytest

from mtcore.errors import ExportError, UnknownNameError
from mtcore.export import ExporterSpec
from mtcore.flow import plan_checkpoint, quantize_checkpoint
from mtcore.hookspecs import hookimpl
from mtcore.plan import holds_nothing
from mtcore.plugins import Registry
from mtcore.testing.toy_blocks import SOURCE, ToyBlocksPlugin, ToyShape, write_toy_blocks


class Plain(ToyBlocksPlugin):
    """The toy dialect, and one that holds codes and scales alone, with a note."""

    @hookimpl
    def mtcore_exporters(self):
        (toy,) = super().mtcore_exporters()
        return [toy, replace(toy, name="plain", holds=holds_nothing, notes=lambda plan: ("all is folded",))]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return f"{SOURCE}{write_toy_blocks(tmp_path_factory.mktemp('toy'), ToyShape(layers=2))}"


@pytest.fixture(scope="module")
def registry():
    return Registry.load([Plain()], discover=False)


def recipe(*steps):
    return {"rules": [{"weight": "int8", "input": "int8"}], "algorithm": list(steps)}


GATES = ["layers.0.gate", "layers.0.up", "layers.1.gate", "layers.1.up"]
"""They read a norm behind a shift, which no fold passes."""


def test_scales_that_no_fold_takes_stay_where_the_dialect_holds_them(source, registry):
    plan = plan_checkpoint(source, recipe("smoothquant"), dialect="toy", registry=registry)
    assert {m.name for m in plan.quantized if m.pre_quant_scale} >= set(GATES)
    assert not plan.errors


@pytest.mark.parametrize("dialect", ["plain", None])
def test_elsewhere_the_layers_stay_unscaled_which_is_said(source, registry, dialect):
    plan = plan_checkpoint(source, recipe("smoothquant"), dialect=dialect, registry=registry)
    assert not any(m.pre_quant_scale for m in plan.quantized)
    said = {f.where for f in plan.findings if "is not scaled by smoothquant" in f.message}
    assert said >= set(GATES)
    assert not plan.errors


def test_what_the_dialect_refuses_is_an_error_of_the_plan_and_of_the_run_before_it(source, registry, tmp_path):
    split = recipe({"method": "svdquant", "rank": 2})
    plan = plan_checkpoint(source, split, dialect="plain", registry=registry)
    (error,) = plan.errors
    assert "plain cannot hold a low-rank branch in 16 bits" in error.message
    with pytest.raises(ExportError, match="plain cannot hold a low-rank branch"):
        quantize_checkpoint(source, split, tmp_path / "out", calib="some", dialect="plain", registry=registry)
    assert not list(tmp_path.iterdir())
    assert not plan_checkpoint(source, split, dialect="toy", registry=registry).errors


def test_an_unknown_dialect_is_named(source, registry):
    with pytest.raises(UnknownNameError, match="plian"):
        plan_checkpoint(source, recipe("max"), dialect="plian", registry=registry)


def test_a_dialect_holds_nothing_unless_it_says_so(source, registry):
    plan = plan_checkpoint(source, recipe("max"), registry=registry)
    spec = ExporterSpec("bare", "for tests", lambda plan: ["a: no"], lambda artifact, folder: None)
    assert not spec.holds(plan.quantized[0], "low_rank")
    assert spec.problems(plan) == ("a: no",)


class Watching(Plain):
    def __init__(self):
        self.seen = []

    @hookimpl
    def mtcore_before_phase(self, phase):
        self.seen.append(phase)

    @hookimpl
    def mtcore_after_phase(self, phase, outcome):
        self.seen.append(f"{phase} {'failed' if outcome.error else 'done'}")


def test_every_step_of_a_calibration_is_a_phase_for_plugins(source, tmp_path):
    plugin = Watching()
    registry = Registry.load([plugin], discover=False)
    quantize_checkpoint(
        source, recipe("smoothquant", "mse"), tmp_path / "out", calib="some", dialect="toy", registry=registry
    )
    begun = plugin.seen.index("calibrate")
    assert plugin.seen[begun : plugin.seen.index("calibrate done") + 1] == [
        "calibrate",
        "calibrate: statistics",
        "calibrate: statistics done",
        "calibrate: smoothquant",
        "calibrate: smoothquant done",
        "calibrate: mse",
        "calibrate: mse done",
        "calibrate done",
    ]


def test_what_the_dialect_folds_or_leaves_out_is_a_note_of_the_plan(source, registry):
    plan = plan_checkpoint(source, recipe("max"), dialect="plain", registry=registry)
    assert [(f.level, f.where) for f in plan.findings if f.message == "all is folded"] == [("note", "plain")]
    other = plan_checkpoint(source, recipe("max"), registry=registry)
    assert "all is folded" not in [f.message for f in other.findings]

"""A way to call `mtopt` in this process, and the small plan and registry that its tests show."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from mtcore.calibration import builtin_algorithms
from mtcore.cli.main import run
from mtcore.formats import builtin_formats
from mtcore.plan.plan import Coverage, Finding, ModulePlan, Plan, ScaleGroup, SlotPlan
from mtcore.recipe import AlgorithmStep, builtin_recipes


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def mtopt(capsys):
    """Calls one command line: `mtopt("plan", "model")` gives exit code, stdout and stderr."""

    def call(*args):
        code = run([str(arg) for arg in args])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def registry(monkeypatch):
    """Commands of this test see this registry in place of the discovered one."""
    fake = SimpleNamespace(
        formats={fmt.name: fmt for fmt in builtin_formats()},
        recipes={recipe.name: recipe for recipe in builtin_recipes()},
        algorithms={spec.name: spec for spec in builtin_algorithms()},
    )
    monkeypatch.setattr("mtcore.plugins.default_registry", lambda: fake)
    return fake


@pytest.fixture
def plan():
    """Four layers of two projections and a head; the head stays by a rule."""
    nvfp4 = {fmt.name: fmt for fmt in builtin_formats()}["nvfp4"]
    rule = "rule #1 of recipe nvfp4"

    def linear(name):
        slots = (
            SlotPlan("weight", nvfp4, "static", rule, group=f"{name}-weight"),
            SlotPlan("input", nvfp4, "dynamic_blocks", rule, group=f"{name}-input"),
        )
        return ModulePlan(name, "Linear", "nn.Linear", (("weight", (64, 32)),), slots, rule)

    layers = [linear(f"layers.{i}.{part}") for i in range(4) for part in ("q_proj", "k_proj")]
    head = ModulePlan(
        "lm_head",
        "Linear",
        "nn.Linear",
        (("weight", (512, 32)),),
        (),
        "left as it is by rule #2 of recipe nvfp4",
        True,
    )
    groups = tuple(
        ScaleGroup(f"g{i}", "weight", (f"layers.{i}.q_proj", f"layers.{i}.k_proj"), "they read one value")
        for i in range(4)
    )
    findings = (Finding("warning", "layers.3.q_proj", "was not called by the example inputs"),)
    coverage = Coverage(total=32768, quantized=16384, unexplained=0)
    return Plan("nvfp4", (*layers, head), groups, (AlgorithmStep("max"),), findings, coverage)

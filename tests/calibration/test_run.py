"""Algorithms are looked up and their options validated together, before anything runs."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

from mtcore.calibration import as_forward_loop, builtin_algorithms, resolve_algorithms, run_algorithms
from mtcore.calibration.algorithms.max import MAX
from mtcore.errors import RecipeError
from mtcore.nn import builtin_quant_modules
from mtcore.plugins import Catalog
from mtcore.quantization import plan_model
from mtcore.quantization.convert import convert
from mtcore.recipe.setting import AlgorithmStep


def test_unknown_names_and_bad_options_are_reported_together_with_the_nearest_name():
    steps = [AlgorithmStep("maxx"), AlgorithmStep("max", {"alpha": 1})]
    with pytest.raises(RecipeError) as caught:
        resolve_algorithms(steps, {"max": MAX})
    assert len(caught.value.problems) == 2
    assert "Did you mean 'max'?" in caught.value.problems[0]
    assert "algorithm #2 (max): no option named 'alpha'. Known: four_over_six" in caught.value.problems[1]


def test_an_unknown_algorithm_tells_of_a_plugin_that_failed():
    catalog = Catalog("algorithm", {}, hint="plugin 'awq' failed to load: OSError")
    with pytest.raises(RecipeError, match=r"no algorithm named 'awq'.*plugin 'awq' failed to load"):
        resolve_algorithms((AlgorithmStep("awq"),), catalog)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (AlgorithmStep("gptq"), (2, "blocks")),
        (AlgorithmStep("autoround", {"steps": 3}), (6, "steps")),
        (AlgorithmStep("autoround", {"steps": 3, "scope": "model"}), (3, "steps")),
    ],
)
def test_a_long_step_tells_how_far_it_is(step, told):
    model = nn.Sequential(nn.ModuleList([nn.Linear(16, 16), nn.Linear(16, 16)]))
    model.forward = lambda x: model[0][1](model[0][0](x))
    batches = [torch.randn(4, 16) for _ in range(2)]
    plan = plan_model(model, {"rules": [{"weight": "int8_row"}], "algorithm": step.method}, inputs=batches[0])
    announced, done = [], []

    @contextmanager
    def phase(name):
        def progress(total, unit):
            announced.append((total, unit))
            return done.append

        yield progress

    algorithms = {spec.name: spec for spec in builtin_algorithms()}
    convert(model, plan, {spec.name: spec for spec in builtin_quant_modules()})
    steps = resolve_algorithms([step], algorithms)
    run_algorithms(model, plan, steps, as_forward_loop(batches), phase=phase)
    assert announced == [told]
    assert sum(done) == told[0]

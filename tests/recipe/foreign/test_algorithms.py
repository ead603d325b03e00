"""Algorithms of Model-Optimizer are read with its names, options and defaults."""

import pytest

from mtcore.calibration import builtin_algorithms, resolve_algorithms
from mtcore.errors import RecipeError
from mtcore.recipe.foreign.algorithms import FOREIGN, spelled_here

CATALOG = {spec.name: spec for spec in builtin_algorithms()}


@pytest.fixture
def steps(load):
    def steps_of(algorithm):
        config = load({"quant_cfg": {"*weight_quantizer": {"num_bits": 8}}, "algorithm": algorithm})
        return [(step.method, dict(step.options)) for step in config.algorithm], config

    return steps_of


@pytest.mark.parametrize("name", FOREIGN)
def test_every_translation_is_understood_here_with_its_defaults(name, steps):
    _, config = steps(name)
    resolve_algorithms(config.algorithm, CATALOG)
    assert spelled_here(name)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"method": "awq_lite", "alpha_step": 0.1}, [("awq", {"variant": "lite", "grid": 10})]),
        ({"method": "awq_clip", "min_clip_ratio": 0.7}, [("awq", {"variant": "clip", "least": 0.7})]),
        ("smoothquant", [("smoothquant", {"alpha": 1.0})]),
        ({"method": "svdquant", "lowrank": 16}, [("awq", {"grid": 10}), ("svdquant", {"rank": 16})]),
        ({"method": "gptq", "perc_damp": 0.05}, [("gptq", {"damping": 0.05, "step": 128})]),
        (["max", {"method": "awq_full"}], [("max", {}), ("awq", {"variant": "full", "grid": 10, "least": 0.5})]),
        ({"method": "autoround", "steps": 9}, [("autoround", {"steps": 9})]),
        (None, []),
    ],
)
def test_a_step_means_what_it_means_there(theirs, ours, steps):
    assert steps(theirs)[0] == ours


def test_options_without_effect_are_noted_and_layerwise_is_said_on_the_line(steps):
    _, config = steps({"method": "awq_clip", "max_co_batch_size": 64, "layerwise": {"enable": True}})
    told = " ".join(config.notes)
    assert "max_co_batch_size of awq_clip" in told
    assert "say --layerwise" in told


@pytest.mark.parametrize("option", [{"shrink_step": 0.2}, {"moe_calib_experts_ratio": 0.5}])
def test_an_option_that_cannot_be_honoured_is_an_error_that_says_why(option, steps):
    with pytest.raises(RecipeError, match="cannot be honoured"):
        steps({"method": "awq_clip", **option})

"""`percentile`, `entropy`, `mse` and `headroom` decide from statistics, as their mathematics says."""

import pytest
import torch
from torch import nn

from mtcore.calibration import as_forward_loop, builtin_algorithms, resolve_algorithms, run_algorithms
from mtcore.calibration.math import headroom_amax, log_counts
from mtcore.errors import RecipeError
from mtcore.formats import Block
from mtcore.numerics import block_amax
from mtcore.plan import make_plan
from mtcore.quantization.convert import convert
from mtcore.recipe.setting import AlgorithmStep
from mtcore.trace import analyze

FP8 = {"*weight_quantizer": "fp8", "*input_quantizer": "fp8"}
INT8 = {"*weight_quantizer": "int8_row", "*input_quantizer": "int8"}
NVFP4 = {"*weight_quantizer": "nvfp4", "*input_quantizer": "nvfp4"}
SEARCHES = ["percentile", "entropy", "mse", "headroom"]


@pytest.fixture
def batches():
    """Heavy tails: few values are far from the rest."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(64, 32, generator=generator) ** 3 for _ in range(4)]


@pytest.fixture
def calibrate(model, batch, specs, make_config, batches):
    model[0].norm = nn.Identity()  # so that the first layers read the data themselves
    journals = []

    def run(rules, method, **options):
        for journal in journals:
            journal.undo()
        plan = make_plan(model, make_config(rules), specs, analyze(model, batch))
        journals.append(convert(model, plan, specs)[1])
        known = {spec.name: spec for spec in builtin_algorithms()}
        loops = []

        def loop(root):
            loops.append(1)
            as_forward_loop(batches)(root)

        run_algorithms(model, plan, resolve_algorithms([AlgorithmStep(method, options)], known), loop)
        return model[0].gate, len(loops)

    return run


@pytest.mark.parametrize("method", SEARCHES)
@pytest.mark.parametrize("rules", [FP8, INT8, NVFP4], ids=["fp8", "int8", "nvfp4"])
def test_one_run_of_the_data_calibrates_every_quantizer(calibrate, model, batch, method, rules):
    _, loops = calibrate(rules, method)
    assert loops == 1
    assert bool(torch.isfinite(model(batch)).all())


def test_percentile_cuts_off_the_share_that_it_is_told(calibrate, batches):
    gate, _ = calibrate(FP8, "percentile", percentile=99.0)
    ordered = torch.cat(batches).abs().flatten().sort().values
    exact = float(ordered[int(0.99 * len(ordered)) - 1])
    assert exact <= float(gate.input_quantizer.amax) <= exact * (1 + 2**-8) * 1.01  # a bin, and one rank


def test_the_whole_percentile_is_max(calibrate, batches):
    gate, _ = calibrate(FP8, "percentile", percentile=100.0)
    assert float(gate.input_quantizer.amax) == float(torch.cat(batches).abs().max())


def test_entropy_cuts_a_long_tail_of_an_integer_format(calibrate, batches):
    gate, _ = calibrate(INT8, "entropy")
    assert 0 < float(gate.input_quantizer.amax) < 0.9 * float(torch.cat(batches).abs().max())


def test_entropy_leaves_the_outer_scale_of_two_levels_alone(calibrate, batches):
    gate, _ = calibrate(NVFP4, "entropy")
    assert float(gate.input_quantizer.outer_amax) == float(torch.cat(batches).abs().max())


@torch.no_grad()
@pytest.mark.parametrize("rules", [INT8, NVFP4], ids=["int8", "nvfp4"])
def test_mse_lowers_the_error_of_weights_and_of_activations(model, calibrate, batches, rules):
    weight, x = model[0].gate.weight.clone(), torch.cat(batches)
    plain, _ = calibrate(rules, "max")
    before = [
        (plain.weight_quantizer(weight) - weight).square().sum(),
        (plain.input_quantizer(x) - x).square().sum(),
    ]
    found, _ = calibrate(rules, "mse")
    after = [
        (found.weight_quantizer(weight) - weight).square().sum(),
        (found.input_quantizer(x) - x).square().sum(),
    ]
    assert after[0] < before[0]
    assert after[1] <= before[1]


def test_mse_can_be_told_to_leave_activations_or_weights(calibrate, batches):
    gate, _ = calibrate(INT8, "mse", activations=False, weights=False)
    assert float(gate.input_quantizer.amax) == float(torch.cat(batches).abs().max())
    assert gate.weight_quantizer.amax is None


def test_headroom_is_that_of_the_blocks_that_were_seen(calibrate, batches):
    gate, _ = calibrate(NVFP4, "headroom", spread=100.0)
    counts = log_counts(block_amax(torch.cat(batches), Block(1, 16)))
    assert float(gate.input_quantizer.outer_amax) == pytest.approx(headroom_amax(counts, spread=100.0), rel=2**-23)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("percentile", {"percentile": 0}),
        ("entropy", {"bins": 0}),
        ("mse", {"start": 2.0, "stop": 1.0}),
        ("headroom", {"anchor": 50.0, "upper": 10.0}),
        ("mse", {"steps": 3}),
    ],
)
def test_options_that_make_no_sense_are_refused_while_planning(method, options):
    known = {spec.name: spec for spec in builtin_algorithms()}
    with pytest.raises(RecipeError, match=method):
        resolve_algorithms([AlgorithmStep(method, options)], known)

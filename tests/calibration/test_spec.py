"""What a run holds, and which plans are not calibrated without data."""

import gc
import weakref

import pytest
from torch import nn

from mtcore.calibration import builtin_algorithms
from mtcore.calibration.spec import CalibrationRun
from mtcore.errors import CalibrationError
from mtcore.plan import make_plan
from mtcore.plugins import Registry
from mtcore.quantization import apply_plan, plan_model
from mtcore.trace import analyze


def test_statistics_go_with_the_run_without_a_collection(model, batch, specs, make_config):
    plan = make_plan(model, make_config({"*weight_quantizer": "fp8"}), specs, analyze(model, batch))
    run = CalibrationRun(model, plan, lambda m: m(batch))
    statistics = weakref.ref(run.statistics)
    gc.disable()
    try:
        del run
        assert statistics() is None
    finally:
        gc.enable()


ALGORITHMS = {spec.name: spec for spec in builtin_algorithms()}
WITHOUT_LINEAR_LAYERS = {"awq", "local_hessian", "smoothquant"}
"""Algorithms that say of every plan that it needs data, and do without where they have no layer to treat."""


@pytest.mark.parametrize("kind", ["linear", "convolution"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_weights_alone_are_calibrated_without_data_where_the_algorithm_says_so(name, kind):
    layer = nn.Linear(32, 32) if kind == "linear" else nn.Conv1d(32, 32, 1)
    registry = Registry.load(discover=False)
    plan = plan_model(layer, {"rules": [{"weight": "int8_row"}], "algorithm": name}, registry=registry)
    if ALGORITHMS[name].needs_data(plan) and not (kind == "convolution" and name in WITHOUT_LINEAR_LAYERS):
        with pytest.raises(CalibrationError, match="needs calibration data"):
            apply_plan(layer, plan, None, registry=registry)
    else:
        apply_plan(layer, plan, None, registry=registry)

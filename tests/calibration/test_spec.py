"""A run holds what it gathers no longer than itself."""

import gc
import weakref

from mtcore.calibration.spec import CalibrationRun
from mtcore.plan import make_plan
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

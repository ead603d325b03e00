"""Estimates: what follows from the plan is exact, what is measured is positive and grows with the work."""

import dataclasses

from mtcore.flow.data_options import DataOptions
from mtcore.flow.estimate import estimate
from mtcore.formats.catalog import FP8, INT8_ROW
from mtcore.recipe import AlgorithmStep
from mtcore.testing.toy import ToyModel, toy_config, toy_plan


def test_memory_is_weights_codes_and_activations():
    model = ToyModel()
    found = estimate(model, toy_plan(model, toy_config(INT8_ROW)), 1000)
    stored = sum(parameter.nbytes for parameter in model.parameters())
    assert found.source_bytes == stored
    assert found.memory_bytes == stored + 1000  # fp32 already, and no data to run


def test_weights_alone_need_no_data():
    model = ToyModel()
    found = estimate(model, toy_plan(model, toy_config(INT8_ROW)), 0)
    assert (found.tokens, found.calibrate_seconds) == (0, 0.0)
    assert found.quantize_seconds > 0


def test_static_inputs_need_one_pass_over_the_data():
    model = ToyModel()
    data = DataOptions(samples=8, length=16)
    found = estimate(model, toy_plan(model, toy_config(FP8, FP8)), 0, data)
    assert found.tokens == 128
    assert found.calibrate_seconds > 0
    assert found.to_json()["seconds"] == found.calibrate_seconds + found.quantize_seconds


def test_steps_that_search_are_named():
    model = ToyModel()
    plan = toy_plan(model, toy_config(FP8, FP8))
    plan = dataclasses.replace(plan, algorithm=(AlgorithmStep("max"), AlgorithmStep("awq")))
    assert estimate(model, plan, 0).more == ("awq",)

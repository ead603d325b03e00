"""A fold that is wrong is dropped before any weight changes, whichever way leads to an algorithm that folds."""

import dataclasses
import logging

import pytest
import torch
from torch import nn

from mtcore.hookspecs import hookimpl
from mtcore.plugins import Registry
from mtcore.quantization import calibrate, plan_model, quantize, quantized_of
from mtcore.trace import analyze

W8A8 = {"*weight_quantizer": {"num_bits": 8}, "*input_quantizer": {"num_bits": 8}}


class Planted:
    """A tracer whose first fold has its channels below moved on by one."""

    @hookimpl
    def mtcore_trace_model(self, model, inputs):
        report = analyze(model, inputs)
        first, *rest = report.folds
        down = tuple(
            dataclasses.replace(side, channels=tuple((c + 1) % first.size for c in side.channels))
            for side in first.down
        )
        return dataclasses.replace(report, folds=(dataclasses.replace(first, down=down), *rest))


@pytest.fixture
def registry():
    return Registry.load([Planted()], discover=False)


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(64, 32, generator=generator) for _ in range(3)]


def config(method):
    return {"quant_cfg": W8A8, "algorithm": method}


def wrong_names(plan):
    return [f.where for f in plan.findings if f.level == "warning" and "is not folded" in f.message]


@pytest.mark.parametrize("method", ["smoothquant", "awq"])
def test_a_planted_wrong_fold_is_dropped_and_said(model, registry, data, method, caplog):
    wanted = [model(x).detach() for x in data]
    folds = analyze(model, data[0]).folds
    with caplog.at_level(logging.WARNING, "mtcore"):
        model = quantize(model, config(method), data, registry=registry)
    plan = quantized_of(model).plan
    assert wrong_names(plan) == [folds[0].name]
    assert plan.folds == folds[1:]
    assert any("is not folded" in record.message for record in caplog.records)
    for x, y in zip(data, wanted, strict=True):
        assert (model(x) - y).abs().max() < 0.05 * y.abs().max()


def test_a_plan_says_it_before_anything_is_done(model, registry, data):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plan = plan_model(model, config("awq"), inputs=data[0], registry=registry)
    assert len(wrong_names(plan)) == 1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_without_an_algorithm_that_folds_nothing_is_proven(model, registry, data):
    plan = plan_model(model, config("max"), inputs=data[0], registry=registry)
    assert not plan.folds_proven
    assert wrong_names(plan) == []


def test_another_calibration_that_folds_proves_first(model, registry, data):
    model = quantize(model, config("max"), data, registry=registry)
    calibrate(model, "awq", data, registry=registry)
    plan = quantized_of(model).plan
    assert len(wrong_names(plan)) == 1
    assert plan.folds_proven
    assert all(m.enabled for m in model.modules() if type(m).__name__ == "TensorQuantizer")


def test_a_model_without_values_is_planned_and_not_run(registry, block_type):
    with torch.device("meta"):
        model = nn.Sequential(block_type(), nn.Linear(32, 10))
    plan = plan_model(model, config("awq"), inputs=torch.randn(2, 32, device="meta"), registry=registry)
    assert plan.folds
    assert not plan.folds_proven

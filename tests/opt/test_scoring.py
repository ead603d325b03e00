"""A look at every choice changes nothing, and scores are what their formulas say."""

import pytest
import torch
from torch import nn

from mtcore.errors import CalibrationError
from mtcore.opt import AS_IT_IS, Decision, Scorer, builtin_searchers
from mtcore.plan import make_plan
from mtcore.plugins import Registry
from mtcore.quantization.twins import quantized_twin
from mtcore.trace import analyze

FISHER, OUTPUT_ERROR = builtin_searchers()
REGISTRY = Registry.load(discover=False)


@pytest.fixture
def twin(make_config, specs):
    def made(model, inputs, fmt="int8"):
        plan = make_plan(model, make_config({"*weight_quantizer": fmt}), specs, analyze(model, inputs))
        return quantized_twin(model, plan, [inputs], registry=REGISTRY)

    return made


def decision(*modules):
    return Decision(modules, 1, {AS_IT_IS: 16, "low": 4})


def summed(output, batch):
    """A loss whose gradient is known: Σ y² / 2 has the gradient y."""
    return output.square().sum() / 2, len(output)


def test_the_output_error_is_that_of_the_layer_alone(model, batch, twin):
    low = twin(model, batch)
    scorer = Scorer(model, {"low": low}, [decision("0.gate", "0.up")], OUTPUT_ERROR)
    found = scorer.scores(batch)
    h = model[0].norm(batch)
    expected = 0.0
    for name in ("gate", "up"):
        exact, rounded = getattr(model[0], name)(h), getattr(low[0], name)(h)
        expected += ((rounded - exact).square().sum() / exact.square().sum()).item()
    assert found == {"0.{gate,up}": {"low": pytest.approx(expected, rel=1e-6)}}


def test_the_fisher_score_is_half_the_squared_gradient_times_the_squared_error_a_sample(model, batch, twin):
    low = twin(model, batch)
    found = Scorer(model, {"low": low}, [decision("2")], FISHER, summed).scores(batch)
    y = model(batch)
    error = low[2](model[:2](batch)) - y
    expected = (y * error).square().sum().item() / 2 / len(batch)
    assert found["2"]["low"] == pytest.approx(expected, rel=1e-5)  # fp32 sums of 60 products, in another order


def test_the_gradient_of_an_early_layer_comes_through_all_later_ones(model, batch, twin):
    low = twin(model, batch)
    found = Scorer(model, {"low": low}, [decision("0.down"), decision("1.down")], FISHER, summed).scores(batch)
    caught = {}
    hook = model[0].down.register_forward_hook(lambda m, args, y: caught.update(y=y, x=args[0]) or y.retain_grad())
    model(batch).square().sum().div(2).backward()
    hook.remove()
    error = (low[0].down(caught["x"]) - caught["y"]).detach()
    expected = float((caught["y"].grad * error).square().sum()) / 2 / len(batch)
    assert found["0.down"]["low"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("spec", [FISHER, OUTPUT_ERROR], ids=lambda spec: spec.name)
def test_afterwards_the_model_is_as_it_was(model, batch, twin, spec):
    low, before = twin(model, batch), model(batch)
    Scorer(model, {"low": low}, [decision("0.gate", "0.up")], spec, summed).scores(batch)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(model(batch), before)


def test_the_same_after_an_exception_in_the_model(model, twin, batch):
    low = twin(model, batch)
    with pytest.raises(RuntimeError, match="normalized_shape"):
        Scorer(model, {"low": low}, [decision("0.down")], FISHER, summed).scores(torch.randn(2, 7))
    assert all(p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_twin_shares_the_parameters_and_leaves_the_model_alone(model, batch, twin):
    before = model(batch)
    low = twin(model, batch)
    assert low[0].gate.weight is model[0].gate.weight
    assert type(model[0].gate) is nn.Linear
    assert torch.equal(model(batch), before)
    assert not torch.equal(low(batch), before)


def test_a_layer_that_the_batch_does_not_reach_has_no_score(model, batch, twin):
    model.add_module("spare", nn.Linear(4, 4))
    model.forward = lambda x: model[2](model[1](model[0](x)))
    low = twin(model, batch)
    assert "spare" not in Scorer(model, {"low": low}, [decision("spare")], OUTPUT_ERROR).scores(batch)


def test_infinite_scores_name_the_layer(model, batch, twin):
    low = twin(model, batch)
    with torch.no_grad():
        model[0].down.weight[0, 0] = float("nan")
    with pytest.raises(CalibrationError, match=r"0\.down: its score for low is nan; check its weights"):
        Scorer(model, {"low": low}, [decision("0.down")], OUTPUT_ERROR).scores(batch)


def test_without_a_loss_a_searcher_with_gradients_is_refused(model, batch, twin):
    with pytest.raises(CalibrationError, match=r"the loss of a Sequential is not known.*output_error"):
        Scorer(model, {"low": twin(model, batch)}, [decision("2")], FISHER).scores(batch)


def test_an_output_that_is_changed_in_place_is_named(twin):
    model = nn.Sequential(nn.Linear(32, 32), nn.ReLU(inplace=True), nn.Linear(32, 4)).eval()
    batch = torch.randn(3, 32)
    scorer = Scorer(model, {"low": twin(model, batch)}, [decision("0"), decision("2")], FISHER, summed)
    with pytest.raises(CalibrationError, match=r"^0: what it reads or gives is changed in place later"):
        scorer.scores(batch)


def test_a_batch_that_reaches_no_layer_of_a_decision_scores_nothing(model, batch, twin):
    model.add_module("spare", nn.Linear(4, 4))
    model.forward = lambda x: model[2](model[1](model[0](x)))
    assert Scorer(model, {"low": twin(model, batch)}, [decision("spare")], FISHER, summed).scores(batch) == {}

"""A twin has the parameters of its model and quantizers of its own, whatever algorithm the plan names."""

from dataclasses import replace

import torch

from mtcore.plugins import Registry
from mtcore.quantization import plan_model
from mtcore.quantization.twins import quantized_twin
from mtcore.recipe import AlgorithmStep

REGISTRY = Registry.load(discover=False)


def test_no_algorithm_changes_the_parameters_that_both_share(model, batch):
    plan = plan_model(model, "int8", inputs=batch, registry=REGISTRY)
    plan = replace(plan, algorithm=(AlgorithmStep("gptq"),))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    twin = quantized_twin(model, plan, [batch], registry=REGISTRY)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    shared = dict(model.named_parameters())
    assert {id(p) for p in twin.parameters()} == {id(p) for p in shared.values()}
    assert not torch.equal(twin(batch), model(batch))

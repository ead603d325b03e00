"""Widening is exact, keeps ties, and leaves no trace in the artifact."""

import torch
from torch import nn

from mtcore.calibration import resolve_algorithms, run_algorithms
from mtcore.calibration.algorithms.max import MAX
from mtcore.flow.precision import restore_dtypes, widen_on_cpu
from mtcore.plan import make_plan
from mtcore.quantization.collect import collect_artifact
from mtcore.quantization.convert import convert
from mtcore.recipe.setting import AlgorithmStep


def artifact_of(model, specs, config):
    plan = make_plan(model, config, specs)
    convert(model, plan, specs)
    run_algorithms(model, plan, resolve_algorithms([AlgorithmStep("max")], {"max": MAX}), None)
    return collect_artifact(model, plan)


def test_an_artifact_of_a_widened_model_equals_that_of_the_narrow_one(block_type, specs, make_config):
    torch.manual_seed(0)
    model = nn.Sequential(block_type(), block_type()).bfloat16()
    model[0].norm.float()
    config = make_config({"*weight_quantizer": "nvfp4"})
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = nn.Sequential(block_type(), block_type()).bfloat16()
    other[0].norm.float()
    other.load_state_dict(state)
    narrow = artifact_of(model, specs, config)
    dtypes = widen_on_cpu(other)
    assert {p.dtype for p in other.parameters()} == {torch.float32}
    wide = restore_dtypes(artifact_of(other, specs, config), dtypes)
    assert {n: t.dtype for n, t in wide.tensors.items()} == {n: t.dtype for n, t in narrow.tensors.items()}
    assert all(torch.equal(wide.tensors[n], narrow.tensors[n]) for n in narrow.tensors)
    for name, module in narrow.modules.items():
        mine, theirs = wide.modules[name].weights["weight"], module.weights["weight"]
        assert mine.dtype == theirs.dtype
        assert torch.equal(mine.qdata, theirs.qdata)


def test_tied_parameters_stay_one():
    model = nn.ModuleDict({"embed": nn.Embedding(4, 4), "head": nn.Linear(4, 4, bias=False)}).bfloat16()
    model["head"].weight = model["embed"].weight
    assert set(widen_on_cpu(model)) == {"embed.weight", "head.weight"}
    assert model["head"].weight is model["embed"].weight
    assert model["head"].weight.dtype == torch.float32

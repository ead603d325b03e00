"""A rehearsed artifact is the real one without values, and leaves the model as it was."""

import pytest
import torch

from mtcore.export import SourceFiles
from mtcore.formats.catalog import FP8, INT8_ROW, NVFP4
from mtcore.quantization.rehearse import rehearse_artifact
from mtcore.testing.exporters import stored_tensors, toy_artifact
from mtcore.testing.toy import ToyModel, toy_config, toy_plan, toy_specs


def rehearsed(model, weight, inputs=None):
    return rehearse_artifact(model, toy_plan(model, toy_config(weight, inputs)), toy_specs())


@pytest.mark.parametrize(("weight", "inputs"), [(FP8, FP8), (NVFP4, NVFP4), (INT8_ROW, None)])
def test_names_shapes_and_dtypes_are_those_of_the_real_artifact(weight, inputs):
    found, real = rehearsed(ToyModel(), weight, inputs), toy_artifact(weight, inputs, SourceFiles())
    facts = [
        {name: (tensor.shape, tensor.dtype) for name, tensor in stored_tensors(artifact).items()}
        for artifact in (found, real)
    ]
    assert facts[0] == facts[1]
    assert found.tied == real.tied
    for name, module in real.modules.items():
        assert found.modules[name].activations.keys() == module.activations.keys()
        for slot, qparams in module.activations.items():
            assert found.modules[name].activations[slot].scale.shape == qparams.scale.shape


def test_nothing_of_it_has_values():
    assert all(tensor.is_meta for tensor in stored_tensors(rehearsed(ToyModel(), FP8, FP8)).values())


def test_a_model_without_values_will_do():
    with torch.device("meta"):
        model = ToyModel()
    assert stored_tensors(rehearsed(model, FP8)).keys() == stored_tensors(rehearsed(ToyModel(), FP8)).keys()


def test_the_model_stays_as_it_was():
    model = ToyModel()
    before = dict(model.named_modules())
    rehearsed(model, FP8, FP8)
    assert dict(model.named_modules()) == before


def test_tied_parameters_stand_once():
    model = ToyModel()
    model.again = torch.nn.Linear(1, 1, bias=False)
    name, parameter = next((name, parameter) for name, parameter in model.named_parameters() if "norm" in name)
    model.again.weight = parameter
    artifact = rehearsed(model, FP8)
    assert artifact.tied == {"again.weight": name}
    assert "again.weight" not in artifact.tensors

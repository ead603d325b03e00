"""What a quantized model tells about itself."""

import pytest
import torch
from torch import nn

import mtcore
from mtcore.calibration import CalibrationSummary
from mtcore.errors import StateError
from mtcore.quantization import compress, quantize, summary_of, undo

RECIPE = {"rules": [{"weight": "int4_b32"}], "algorithm": "max"}


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 4))


def test_the_summary_names_every_layer_and_is_the_one_of_the_facade():
    model = quantize(net(), RECIPE, [torch.randn(8, 32)], summary=True)
    summary = mtcore.summary_of(model)
    assert isinstance(summary, CalibrationSummary)
    assert {layer.name for layer in summary.layers} == {"0", "2"}
    assert all(layer.output_error > 0 for layer in summary.layers)


def test_a_summary_does_not_change_the_result():
    x = torch.randn(8, 32)
    with_it, without = (quantize(net(), RECIPE, [x], summary=asked) for asked in (True, False))
    assert torch.equal(with_it(x), without(x))


@pytest.mark.parametrize(
    ("model", "said"),
    [(net, "call quantize"), (lambda: quantize(net(), RECIPE), "summary=True")],
    ids=["not quantized", "not asked for"],
)
def test_a_model_without_one_says_how_to_get_it(model, said):
    with pytest.raises(StateError, match=said):
        summary_of(model())


def test_a_model_is_not_quantized_twice():
    model = quantize(net(), RECIPE)
    before = model[0]
    with pytest.raises(StateError, match=r"is quantized already: call undo\(model\) first"):
        quantize(model, RECIPE)
    assert model[0] is before
    quantize(undo(model), RECIPE)


@pytest.mark.parametrize(
    "again",
    [lambda model: quantize(model, RECIPE), undo, compress, summary_of],
    ids=["quantize", "undo", "compress", "summary_of"],
)
def test_a_compressed_model_says_that_it_is_one(again):
    model = compress(quantize(net(), RECIPE))
    with pytest.raises(StateError, match=r"this Sequential is compressed.*[Ll]oad the original model"):
        again(model)

"""Layers and algorithms registered from a script work like those of a plugin, and can be taken back."""

import pytest
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from mtcore.errors import PluginError, RecipeError
from mtcore.nn import QuantLinear, QuantModule
from mtcore.plugins import Registry, default_registry
from mtcore.plugins.local import LOCAL
from mtcore.quantization import QuantizeModeRegistry, QuantModuleRegistry, quantize


class Scaled(nn.Linear):
    def forward(self, input):
        return 2 * super().forward(input)


class QuantScaled(QuantLinear, Scaled):
    def forward(self, input):
        return 2 * nn.functional.linear(self.input_quantizer(input), self.weight_quantizer(self.weight), self.bias)


@pytest.fixture(autouse=True)
def nothing_stays():
    yield
    for name in (*LOCAL.quant_modules, *LOCAL.algorithms):
        LOCAL.remove(name)


CONFIG = {"quant_cfg": {"*weight_quantizer": {"num_bits": 8}}, "algorithm": "max"}


def test_a_registered_layer_is_quantized_from_then_on():
    assert Scaled not in QuantModuleRegistry
    assert QuantModuleRegistry.get(Scaled) is None
    QuantModuleRegistry.register({Scaled: "Scaled"})(QuantScaled)
    assert Scaled in QuantModuleRegistry
    assert QuantModuleRegistry[Scaled] is QuantScaled
    model = quantize(nn.Sequential(Scaled(16, 4)), CONFIG, inputs=torch.zeros(1, 16))
    assert type(model[0]) is QuantScaled
    assert [slot for slot, _ in model[0].quantizers()] == ["weight"]


def test_it_is_in_no_registry_that_is_built_by_hand():
    QuantModuleRegistry.register({Scaled: "Scaled"})(QuantScaled)
    assert "Scaled" in default_registry().quant_modules
    assert "Scaled" not in Registry.load(discover=False).quant_modules
    assert "Scaled" in Registry.load([LOCAL], discover=False).quant_modules


def test_what_was_registered_can_be_taken_back():
    QuantModuleRegistry.register({Scaled: "Scaled"})(QuantScaled)
    QuantModuleRegistry.unregister(Scaled)
    assert Scaled not in QuantModuleRegistry
    with pytest.raises(KeyError):
        QuantModuleRegistry.unregister(Scaled)
    with pytest.raises(KeyError):
        QuantModuleRegistry.unregister(nn.Linear)


def test_a_class_that_is_no_quantized_form_of_the_original_is_refused():
    class NotQuantized(Scaled):
        pass

    class OfAnother(QuantModule, nn.Bilinear):
        pass

    for wrong in (NotQuantized, OfAnother):
        with pytest.raises(PluginError, match=rf"declare it as class {wrong.__name__}\(QuantModule, Scaled\)"):
            QuantModuleRegistry.register({Scaled: "Scaled"})(wrong)
    assert Scaled not in QuantModuleRegistry


def test_the_name_of_a_built_in_is_taken_and_an_own_one_can_be_replaced():
    with pytest.raises(PluginError, match=r"a quantized layer named 'nn\.Linear' already"):
        QuantModuleRegistry.register({Scaled: "nn.Linear"})(QuantScaled)
    QuantModuleRegistry.register({Scaled: "Scaled"})(QuantScaled)

    class Other(QuantScaled):
        pass

    QuantModuleRegistry.register({Scaled: "Scaled"})(Other)
    assert QuantModuleRegistry[Scaled] is Other


def test_the_built_in_layers_are_listed_by_class():
    assert QuantModuleRegistry[nn.Linear] is QuantLinear
    assert {nn.Linear, nn.Conv2d, nn.LSTM} <= set(QuantModuleRegistry)
    assert len(QuantModuleRegistry) == len(list(QuantModuleRegistry))


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    factor: float = 1.0


def test_a_registered_algorithm_can_be_named_with_its_options():
    seen = []

    @QuantizeModeRegistry.register("mine", Options, needs_data=False)
    def run_mine(run, options):
        """Remember the factor."""
        seen.append(options.factor)

    assert "mine" in QuantizeModeRegistry
    assert "mine" in set(QuantizeModeRegistry)
    assert QuantizeModeRegistry["mine"].summary == "Remember the factor."
    config = {**CONFIG, "algorithm": {"method": "mine", "factor": 3.0}}
    quantize(nn.Sequential(nn.Linear(16, 4)), config, inputs=torch.zeros(1, 16))
    assert seen == [3.0]
    QuantizeModeRegistry.unregister("mine")
    assert "mine" not in QuantizeModeRegistry
    with pytest.raises(RecipeError, match="no algorithm named 'mine'"):
        quantize(nn.Sequential(nn.Linear(16, 4)), config, inputs=torch.zeros(1, 16))


def test_the_name_of_a_built_in_algorithm_is_taken():
    with pytest.raises(PluginError, match="algorithm named 'max' already"):
        QuantizeModeRegistry.register("max", Options)(lambda run, options: None)
    with pytest.raises(KeyError):
        QuantizeModeRegistry.unregister("max")

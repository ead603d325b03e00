"""The recipe can be read, and plans what it says."""

import mtopt_template.hooks
from mtcore.plugins import Registry
from mtcore.recipe import load_config
from mtcore.testing import ToyModel, toy_plan


def test_it_plans_weights_in_fp8_and_leaves_inputs_alone():
    registry = Registry.load([mtopt_template.hooks], discover=False, strict=True)
    config = load_config("template-half", formats=registry.formats, recipes=registry.recipes)
    slots = {(slot.slot, slot.format.name) for m in toy_plan(ToyModel(), config).quantized for slot in m.slots}
    assert slots == {("weight", "fp8")}

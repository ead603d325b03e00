"""A plan survives JSON, formats included; anything else is refused."""

import json

import pytest

from mtcore.errors import StateError
from mtcore.plan import make_plan, plan_from_dict, plan_to_dict
from mtcore.trace import analyze


def test_a_plan_survives_json(model, batch, specs, make_config):
    config = make_config({"*weight_quantizer": "nvfp4", "*input_quantizer": "fp8", "*lm_head*": None})
    plan = make_plan(model, config, specs, analyze(model, batch))
    assert plan_from_dict(json.loads(json.dumps(plan_to_dict(plan)))) == plan


@pytest.mark.parametrize("text", ["{}", "[]", '{"version": 99}', '{"version": 1, "formats": {"a": {}}}', "null"])
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(StateError):
        plan_from_dict(json.loads(text))

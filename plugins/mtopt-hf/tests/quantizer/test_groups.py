"""Which group of a configuration speaks of a module."""

import pytest

from mtcore.errors import ModelError
from mtcore.formats.catalog import FP8, NVFP4
from mtopt_hf.quantizer.groups import Group, group_of, read_groups

ALL = Group(("Linear",), FP8, None)
NAMED = Group(
    ("model.layers.0.mlp.up_proj", "re:.*self_attn.*", "model.layers.0.mlp.experts.3.up_proj"), NVFP4, None
)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("model.layers.0.mlp.up_proj", NAMED),
        ("model.layers.1.self_attn.q_proj", NAMED),
        ("model.layers.0.mlp.experts", NAMED),
        ("model.layers.0.mlp.up_proj_2", ALL),
        ("model.layers.1.mlp.up_proj", ALL),
    ],
)
def test_a_name_a_pattern_or_an_expert_comes_before_a_class(module, expected):
    assert group_of(module, [ALL, NAMED]) is expected
    assert group_of(module, [NAMED, ALL]) is expected


def test_codes_that_no_group_speaks_of_are_an_error():
    with pytest.raises(ModelError, match="has no group that says how to read them"):
        group_of("model.layers.1.mlp.up_proj", [NAMED])


def test_a_configuration_without_groups_has_none():
    assert read_groups({"quant_method": "compressed-tensors"}) == ()

"""Attributes are read in every spelling, and what cannot be honoured is said, with its reason."""

import pytest

from mtcore.recipe.foreign.attributes import (
    NO_EFFECT,
    ONLY_DEFAULT,
    Attributes,
    BlockSizes,
    is_default,
    read_axis,
    read_bits,
    read_block_sizes,
)


@pytest.mark.parametrize(("value", "bits"), [(8, 8), ([4, 3], (4, 3)), ((2, 1), (2, 1)), ("E4M3", (4, 3))])
def test_num_bits_in_every_spelling(value, bits):
    assert read_bits(value) == bits


@pytest.mark.parametrize("value", [True, 8.0, "fp8", [4], [4, "3"], None, {}])
def test_num_bits_that_are_none(value):
    with pytest.raises(ValueError, match="neither a number of bits nor"):
        read_bits(value)


def test_an_axis_may_stand_in_a_list():
    assert (read_axis(None), read_axis(0), read_axis([-1]), read_axis([])) == (None, 0, -1, None)
    for value in ([0, 1], "0", True, 1.0):
        with pytest.raises(ValueError, match="one axis or none"):
            read_axis(value)


def test_block_sizes_hold_extents_and_the_kind_of_scales():
    assert read_block_sizes(None) is None
    assert read_block_sizes({-1: 16, "type": "dynamic", "scale_bits": [4, 3]}) == BlockSizes({-1: 16}, True, (4, 3))
    assert read_block_sizes({"-1": None, "four_over_six": False, "scale_block_sizes": None}) == BlockSizes(
        {-1: None}
    )


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (16, "a mapping such as"),
        ({}, "it names no axis"),
        ({"type": "static"}, "it names no axis"),
        ({-1: 0}, "block size 0 of axis -1 is not a positive number"),
        ({-1: True}, "is not a positive number"),
        ({-1: 16, "typ": "dynamic"}, "unknown key 'typ'"),
        ({-1: 16, "type": "sometimes"}, "it is static or dynamic"),
        ({-1: 16, "scale_bits": [5, 2]}, "scales are"),
        ({-1: 16, "scale_bits": 8}, "scales are"),
        ({-1: 16, "scale_block_sizes": {-1: 256}}, "one for the whole tensor here"),
        ({-1: 16, "four_over_six": True}, "an algorithm's choice here"),
    ],
)
def test_block_sizes_that_cannot_be(value, fault):
    with pytest.raises(ValueError, match="block_sizes") as caught:
        read_block_sizes(value)
    assert fault in str(caught.value)


def test_every_attribute_has_one_treatment():
    used = {"enable", "num_bits", "axis", "block_sizes", "type", "unsigned", "narrow_range", "format"}
    used |= {"use_constant_amax", "constant_amax"}
    assert used | set(NO_EFFECT) | set(ONLY_DEFAULT) == set(Attributes.model_fields)
    assert len(used) + len(NO_EFFECT) + len(ONLY_DEFAULT) == len(Attributes.model_fields)


@pytest.mark.parametrize("name", ONLY_DEFAULT)
def test_a_default_says_no_more_than_leaving_it_out(name):
    assert is_default(name, Attributes.model_fields[name].default)
    assert not is_default(name, "something else")


def test_a_switched_off_mapping_counts_as_the_default():
    assert is_default("bias", {"enable": False})
    assert is_default("rotate", {"enable": False})
    assert not is_default("bias", {"enable": True})
    assert not is_default("pass_through_bwd", False)

"""Attributes mean formats: the catalog's where it has one, else one made with a name that tells."""

import pytest

from mtcore.formats import WHOLE, Block
from mtcore.recipe.foreign.attributes import Attributes
from mtcore.recipe.foreign.element import FLOATS, UntranslatableError, in_two_stages, translate

NV = {"type": "dynamic", "scale_bits": (4, 3)}
MX = {"type": "dynamic", "scale_bits": (8, 0)}


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "int8"),
        ({"narrow_range": True}, "int8"),
        ({"axis": 0}, "int8_row"),
        ({"axis": -2}, "int8_row"),
        ({"num_bits": (4, 3)}, "fp8"),
        ({"num_bits": "e4m3", "axis": 0}, "fp8_row"),
        ({"num_bits": (5, 2)}, "fp8_e5m2"),
        ({"num_bits": (4, 3), "block_sizes": {-1: 128, -2: 128}}, "fp8_128x128"),
        ({"num_bits": (4, 3), "block_sizes": {0: 128, 1: 128}}, "fp8_128x128"),
        ({"num_bits": (4, 3), "block_sizes": {-1: None}}, "fp8_row"),
        ({"num_bits": 4, "block_sizes": {-1: 128}}, "int4_b128"),
        ({"num_bits": 4, "block_sizes": {-1: 128}, "narrow_range": True}, "int4_b128"),
        ({"num_bits": 3, "block_sizes": {-1: 64}}, "int3_b64"),
        ({"num_bits": (2, 1), "block_sizes": {-1: 16, **NV}}, "nvfp4"),
        ({"num_bits": (4, 3), "block_sizes": {-1: 32, **MX}}, "mxfp8_e4m3"),
        ({"num_bits": (5, 2), "block_sizes": {-1: 32, **MX}}, "mxfp8_e5m2"),
        ({"num_bits": (3, 2), "block_sizes": {-1: 32, **MX}}, "mxfp6_e3m2"),
        ({"num_bits": (2, 3), "block_sizes": {-1: 32, **MX}}, "mxfp6_e2m3"),
        ({"num_bits": (2, 1), "block_sizes": {-1: 32, **MX}}, "mxfp4"),
        ({"num_bits": 8, "block_sizes": {-1: 32, **MX}}, "mxint8"),
    ],
)
def test_attributes_of_a_weight_find_the_catalogs_format(fields, name, formats):
    assert translate(Attributes(**fields), formats, is_weight=True) is formats[name]


@pytest.mark.parametrize(
    ("fields", "name", "block"),
    [
        ({"num_bits": 4, "block_sizes": {-1: 96}}, "int4_b96", Block(1, 96)),
        ({"num_bits": 4, "axis": 0}, "int4_row", Block(1, WHOLE)),
        ({"num_bits": 8, "axis": 1}, "int8_column", Block(WHOLE, 1)),
        ({"unsigned": True}, "uint8", Block(WHOLE, WHOLE)),
        ({"num_bits": 4, "axis": 0, "narrow_range": True}, "int4_narrow_row", Block(1, WHOLE)),
        ({"num_bits": (2, 1), "block_sizes": {-1: 32, **NV}}, "nvfp4_b32", Block(1, 32)),
        ({"num_bits": (2, 1), "block_sizes": {-1: 16, **MX}}, "mxfp4_b16", Block(1, 16)),
        ({"num_bits": (4, 3), "block_sizes": {-2: 64}}, "fp8_64x1", Block(64, 1)),
        ({"num_bits": (4, 3), "block_sizes": {-1: 64, -2: None}}, "fp8_allx64", Block(WHOLE, 64)),
    ],
)
def test_what_the_catalog_lacks_is_made_with_a_name_that_tells(fields, name, block, formats):
    fmt = translate(Attributes(**fields), formats, is_weight=True)
    assert (fmt.name, fmt.block) == (name, block)
    assert name not in formats


def test_a_name_that_is_taken_is_not_used_again(formats):
    other = {**formats, "int4_b96": formats["fp8"]}
    fmt = translate(Attributes(num_bits=4, block_sizes={-1: 96}), other, is_weight=True)
    assert fmt.name == "int4_b96_foreign"


@pytest.mark.parametrize("bits", FLOATS)
def test_every_float_that_is_named_has_a_format(bits, formats):
    fmt = translate(Attributes(num_bits=bits), formats, is_weight=True)
    assert (fmt.element.exponent_bits, fmt.element.mantissa_bits) == bits


@pytest.mark.parametrize(
    ("fields", "is_weight", "message"),
    [
        ({"num_bits": 16}, True, "integers have 2 to 8 bits"),
        ({"num_bits": 1}, True, "integers have 2 to 8 bits"),
        ({"num_bits": (0, 3)}, True, "an integer is written num_bits: 4"),
        ({"num_bits": (8, 23)}, True, "floats are"),
        ({"num_bits": (4, 3), "unsigned": True}, True, "floats have a sign"),
        ({"axis": 0, "block_sizes": {-1: 16}}, True, "exclude each other"),
        ({"axis": 2}, True, "axis 2 is not one of a matrix's two"),
        ({"block_sizes": {0: 16, -2: 16}}, True, "names one axis twice"),
        ({"axis": 0}, False, "count from the end"),
        ({"axis": -2}, False, "one scale a token is block_sizes {-1: null}"),
        ({"block_sizes": {1: 16}}, False, "count from the end"),
    ],
)
def test_what_cannot_be_said_tells_why(fields, is_weight, message, formats):
    with pytest.raises(UntranslatableError) as caught:
        translate(Attributes(**fields), formats, is_weight=is_weight)
    assert message in str(caught.value)


def test_two_stages_find_the_catalogs_format(formats):
    assert in_two_stages(formats["int4_b128"], formats["fp8"], formats) is formats["int4_b128_fp8"]
    assert in_two_stages(formats["int4_b64"], formats["fp8"], formats).name == "int4_b64_fp8"


@pytest.mark.parametrize(("first", "second"), [("nvfp4", "fp8"), ("int4_b128", "fp8_row"), ("int4_b128", "int8")])
def test_two_stages_that_no_format_has_are_refused(first, second, formats):
    with pytest.raises(UntranslatableError, match="stage is"):
        in_two_stages(formats[first], formats[second], formats)

"""Tensor formats derive what follows from their fields and refuse contradictions."""

import pytest

from mtcore.errors import FormatError
from mtcore.formats import PER_ROW, PER_TENSOR, WHOLE, Block, IntElement, Scale, TensorFormat, builtin_formats
from mtcore.formats.catalog import FP8, INT8_TENSOR, NVFP4
from mtcore.formats.element import E2M1, E4M3, FP32, INT8

FORMATS = list(builtin_formats())


def test_names_and_aliases_are_unique():
    names = [name for fmt in FORMATS for name in (fmt.name, *fmt.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_every_format_has_a_summary_and_is_hashable(fmt):
    assert fmt.summary
    assert {fmt: 1}[fmt] == 1


def test_nvfp4_derives_its_constants():
    assert NVFP4.target == 6.0
    assert NVFP4.outer_target == 2688.0
    assert NVFP4.bits_per_element == 4.5
    assert NVFP4.needs_tensor_amax


def test_per_tensor_scales_cost_nothing_an_element():
    assert FP8.bits_per_element == 8.0
    assert INT8_TENSOR.target == 127.0


@pytest.mark.parametrize(
    ("block", "grid"),
    [
        (PER_TENSOR, (1, 1)),
        (PER_ROW, (3, 1)),
        (Block(1, 16), (3, 2)),
        (Block(2, 20), (2, 1)),
        (Block(WHOLE, 1), (1, 20)),
    ],
)
def test_the_grid_counts_partial_edge_blocks(block, grid):
    assert block.grid(3, 20) == grid


def test_a_block_of_zero_elements_is_refused():
    with pytest.raises(FormatError, match="0x16"):
        Block(0, 16)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"scales": ()}, "0 levels"),
        ({"scales": (Scale(E4M3, Block(1, 16)), Scale(E4M3, PER_TENSOR))}, "outer scale is e4m3fn"),
        ({"scales": (Scale(FP32, Block(1, 16)), Scale(FP32, PER_TENSOR))}, "needs no outer"),
        ({"scales": (Scale(FP32, PER_ROW),), "zero_point": INT8}, "zero point goes with integers"),
        ({"scales": (Scale(FP32, PER_ROW),), "amax_to": -1.0}, "amax_to is -1.0"),
    ],
)
def test_contradictory_fields_are_refused_by_name(kwargs, message):
    with pytest.raises(FormatError, match=message) as caught:
        TensorFormat("odd", E2M1, **kwargs)
    assert "'odd'" in str(caught.value)


def test_a_zero_point_goes_with_integers():
    fmt = TensorFormat(
        "u4", IntElement(4, signed=False), (Scale(FP32, Block(1, 32)),), zero_point=IntElement(4, False)
    )
    assert not fmt.symmetric

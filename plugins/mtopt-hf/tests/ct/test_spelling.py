"""The table: every catalog format that it holds is accepted by the library in the arguments that it gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compressed_tensors.quantization import QuantizationArgs

from mtcore.formats import IntElement
from mtcore.formats.catalog import FP8, INT8_TENSOR
from mtopt_hf.ct.spelling import SPELLINGS, Spelling, spelling_of

by_format = pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda spelling: spelling.format.name)


@by_format
def test_arguments_are_the_librarys_own(spelling: Spelling) -> None:
    for arguments in filter(None, (spelling.weight, *spelling.activation.values())):
        read = QuantizationArgs.model_validate(dict(arguments)).model_dump()
        assert {key: read[key] for key in arguments if key != "scale_dtype"} == {
            key: value for key, value in arguments.items() if key != "scale_dtype"
        }
        assert str(read.get("scale_dtype")) == str(arguments.get("scale_dtype"))


@by_format
def test_a_format_is_found_by_what_it_stores_not_by_its_name(spelling: Spelling) -> None:
    assert spelling_of(replace(spelling.format, name="other", aliases=(), summary="")) is spelling


def test_where_an_amax_lands_does_not_matter_to_a_reader() -> None:
    tool = replace(INT8_TENSOR, element=IntElement(8), amax_to=127.5)
    assert spelling_of(tool) is spelling_of(INT8_TENSOR)


def test_other_codes_have_no_spelling() -> None:
    assert spelling_of(replace(INT8_TENSOR, element=IntElement(9))) is None
    assert spelling_of(replace(FP8, scales=(replace(FP8.inner, block=replace(FP8.block, rows=3)),))) is None

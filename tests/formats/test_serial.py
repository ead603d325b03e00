"""Formats survive JSON; what is no format is refused."""

import json

import pytest

from mtcore.errors import FormatError
from mtcore.formats import (
    PER_ROW,
    Scale,
    TableElement,
    TensorFormat,
    builtin_formats,
    format_from_dict,
    format_to_dict,
)
from mtcore.formats.element import FP32

CODE_BOOK = TensorFormat("book", TableElement("book", (-1.0, -0.1, 0.3, 1.0)), (Scale(FP32, PER_ROW),))


@pytest.mark.parametrize("fmt", [*builtin_formats(), CODE_BOOK], ids=lambda f: f.name)
def test_a_format_survives_json(fmt):
    assert format_from_dict(json.loads(json.dumps(format_to_dict(fmt)))) == fmt


@pytest.mark.parametrize("change", [{"element": {"kind": "odd"}}, {"scales": []}, {"scales": None}, {"more": 1}])
def test_what_is_no_format_is_refused(change):
    with pytest.raises(FormatError):
        format_from_dict({**format_to_dict(CODE_BOOK), **change})

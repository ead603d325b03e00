"""Docstrings become reStructuredText: code as code, and no sign of ours taken for markup."""

import importlib.util

import pytest

from tests.docs.pages import ROOT


@pytest.fixture(scope="module")
def docstrings():
    spec = importlib.util.spec_from_file_location("docs_docstrings", ROOT / "docs" / "_ext" / "docstrings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("Σ |x| of `a_|b` and *weight", r"Σ \|x\| of ``a_|b`` and \*weight"),
        ("see name_, a_b and ``kept``", r"see name\_, a_b and ``kept``"),
        ("a \\ b", r"a \\ b"),
    ],
)
def test_a_line_keeps_its_words(docstrings, ours, theirs):
    assert docstrings.plain(ours) == theirs


def test_examples_and_indented_code_stay_as_they_are(docstrings):
    lines = ["Like this:", "", "    x = *y", "", "After.", "", "Example:", "    >>> a*b", "    `c`", "", "`d`"]
    docstrings.translate(None, "function", "", None, None, lines)
    assert lines[:4] == ["Like this::", "", "    x = *y", ""]
    assert lines[7:] == ["    >>> a*b", "    `c`", "", "``d``"]


def test_a_colon_in_the_first_line_of_a_property_names_no_type(docstrings):
    lines = ["The exponent: emax."]
    docstrings.translate(None, "property", "", None, None, lines)
    assert lines == ["\\", "The exponent: emax."]

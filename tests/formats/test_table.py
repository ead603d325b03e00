"""The page of formats names every format of the catalog, shows no failed check, and its checks can fail."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest

from mtcore.errors import MtcoreError
from mtcore.formats import builtin_formats
from mtcore.formats.catalog import INT4_B128, NVFP4
from mtcore.plugins import Registry

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "generate"))
    return importlib.import_module("format_table")


def test_the_page_has_a_row_for_every_format_and_no_failure():
    page = (DOCS / "reference" / "formats.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [fmt.name for fmt in builtin_formats()]
    assert "**no**" not in page
    assert "Layers: nn.Linear" in page


@pytest.mark.parametrize("fmt", [NVFP4, INT4_B128], ids=lambda f: f.name)
def test_the_checks_pass_anew(table, fmt):
    row = table.check(fmt, Registry.load(discover=False))
    assert row.problems == []
    assert row.cells()[4] == "yes"


def test_a_wrong_reference_is_seen(table, monkeypatch):
    monkeypatch.setattr(table, "fake_quantize", lambda x, qparams: x + 1)
    assert not table.cpu_reference_holds(NVFP4)


def test_a_wrong_code_and_a_wrong_layer_are_seen(table, monkeypatch):
    monkeypatch.setitem(table.INDEPENDENT, "e2m1", table.INDEPENDENT["e3m2"])
    assert table.codes_checked(NVFP4.element) == "e2m1 wrong"

    def fail(*args, **kwargs):
        raise MtcoreError("no")

    monkeypatch.setattr(table, "quantize_model", fail)
    row = table.check(replace(NVFP4, name="other"), Registry.load(discover=False))
    assert "all layers: MtcoreError: no" in row.problems
    assert "round_trip" in row.problems

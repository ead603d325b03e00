"""The page of algorithms is what its generator writes from the records now."""

import importlib
from pathlib import Path

from mtcore.calibration import builtin_algorithms

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_what_the_records_say(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "generate"))
    table = importlib.import_module("algorithm_table")
    page = (DOCS / "reference" / "algorithms.md").read_text(encoding="utf-8")
    assert page == table.page(builtin_algorithms()), "run python docs/generate/algorithm_table.py"

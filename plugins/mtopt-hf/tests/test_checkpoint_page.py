"""The page about checkpoints is what the exporters' tables say."""

from importlib import import_module
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_is_up_to_date(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "generate"))
    module = import_module("dialect_table")
    assert module.build() == module.TARGET.read_text(), "run docs/generate/dialect_table.py"

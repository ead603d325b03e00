"""The page of rules in the docs is that of the rules."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_the_page_is_up_to_date(registry):
    spec = importlib.util.spec_from_file_location("lint_table", ROOT / "docs" / "generate" / "lint_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "reference" / "lint.md").read_text() == module.page(registry)

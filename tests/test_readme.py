"""The README keeps its promise of one complete run in 15 lines; tests/docs runs its blocks and checks its links."""

from tests.docs.pages import ROOT, blocks


def test_the_complete_run_fits_in_fifteen_lines():
    first = next(block for block in blocks(ROOT / "README.md") if block.language == "python")
    assert len([line for line in first.text.splitlines() if line.strip()]) <= 15

"""The README's Python runs as it is written."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=["one-complete-run", "in-memory"])
def test_a_python_block_runs_as_it_is_written(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(block, str(README), "exec"), {"__name__": "__main__"})  # the README is ours


def test_the_complete_run_fits_in_fifteen_lines():
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 15


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)]+)\)", README.read_text(encoding="utf-8")))
def test_a_link_points_at_something_that_exists(link):
    assert (README.parent / link).exists()

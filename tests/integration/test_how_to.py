"""The code of the how-to pages runs as it stands, page by page, and the contracts that a page states pass."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PROGRAMS = ("teach-a-kernel.md",)
"""Pages whose blocks are one program with tests at its end."""


@pytest.mark.parametrize("page", PROGRAMS)
def test_the_code_of_a_page_runs_and_its_contracts_pass(page: str, tmp_path: Path) -> None:
    blocks = BLOCK.findall((PAGES / page).read_text(encoding="utf-8"))
    program = tmp_path / "test_page.py"
    program.write_text("\n".join(blocks), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(program)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[6-9] passed", done.stdout), done.stdout

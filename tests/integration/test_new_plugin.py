"""From an empty directory to a quantized model, as the how-to page shows it; and a whole template installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_steps_of_the_how_to_page_do_what_it_says() -> None:
    script = ROOT / "bench" / "plugin_afternoon.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "first differing element [31] is 28.0, expected 26.0 (2 of 64 differ)" in done.stdout


def test_the_transcript_on_the_page_shows_the_steps_of_the_script() -> None:
    page = (ROOT / "docs" / "how-to" / "write-a-plugin.md").read_text()
    assert "+ E3M2 = TensorFormat(" in page
    assert page.count("\n$ ") == 10, "ten commands; run bench/plugin_afternoon.py --docs again"


@pytest.mark.slow
def test_a_plugin_with_all_parts_installs_is_found_and_passes_with_no_edit(tmp_path: Path) -> None:
    script = ROOT / "bench" / "plugin_afternoon.py"
    done = subprocess.run(
        [sys.executable, str(script), "--untouched"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kernels: acme-quant.row_amax" in done.stdout
    assert "failed" not in done.stdout

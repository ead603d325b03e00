"""Every package builds into a wheel that has what it promises."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "bench" / "wheels.py"


@pytest.mark.slow
def test_every_package_builds_with_its_licence_types_and_pins():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--no-install"], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mtcore-" in done.stdout

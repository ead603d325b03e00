"""In Triton's interpreter: the contract of the memory-bound kernels, and the products."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("name", ["streaming", "calibration", "linear"])
def test_the_kernels_compute_what_they_must_in_the_interpreter(name):
    # The interpreter must be switched on before Triton is imported: so in a process of its own.
    path = Path(__file__).parent / "interpreted" / f"{name}.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", str(path)]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

"""The memory-bound kernels: their contract holds in the interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_contract_of_the_memory_bound_kernels_holds_in_the_interpreter():
    # The interpreter must be switched on before Triton is imported: so in a process of its own.
    path = Path(__file__).parent / "interpreted" / "streaming.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", str(path)]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

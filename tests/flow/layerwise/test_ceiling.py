"""A ceiling on memory holds for a model that is several times larger; one that cannot hold is refused in words."""

import shutil
import subprocess
import sys

import pytest

from mtcore.errors import CalibrationError
from mtcore.files import peak_bytes
from mtcore.flow import LayerwiseOptions
from mtcore.flow.layerwise.ceiling import Ceiling
from mtcore.testing.toy_blocks import ToyShape, write_toy_blocks

ROOM = 200 << 20
"""Bytes above what a process holds anyway, which depends on how torch was built: the ceiling leaves no more."""
PROGRAM = """
import sys
from pathlib import Path
from mtcore.testing.toy_blocks import quantize_toy
eight = {"num_bits": 8}
rules = {"*": {"enable": False}, "*down.weight_quantizer": eight, "*down.input_quantizer": eight}
# a third of the weights is enough: rounding takes the time
recipe = {"quant_cfg": rules, "algorithm": "max", "max_unquantized": 1.0}
print(quantize_toy(Path(sys.argv[1]), Path(sys.argv[2]), recipe, int(sys.argv[3]), samples=2))
"""


def _peak(folder, out, ceiling):
    """The most bytes that a process held which quantized a model under a ceiling."""
    command = [sys.executable, "-c", PROGRAM, str(folder), str(out), str(ceiling)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
def test_a_model_three_times_as_large_keeps_to_the_ceiling(tmp_path):
    small = write_toy_blocks(tmp_path / "small", ToyShape(layers=2, width=64, dtype="float32"))
    ceiling = _peak(small, tmp_path / "small-out", 1 << 40) + ROOM
    layers = 3 * ceiling // (48 << 20)
    folder = write_toy_blocks(tmp_path / "big", ToyShape(layers=layers, width=1024, dtype="float32"))
    try:
        assert sum(file.stat().st_size for file in folder.iterdir()) > 3 * ceiling - (64 << 20)
        assert 0 < _peak(folder, tmp_path / "out", ceiling) <= ceiling
        assert (tmp_path / "out" / f"layers.{layers - 1}.safetensors").exists()
    finally:
        shutil.rmtree(folder)


def test_a_ceiling_below_what_the_process_holds_is_refused_beforehand(quantize, tmp_path):
    with pytest.raises(CalibrationError, match=r"1\.0 MiB of memory are too little: .* layers\.0"):
        quantize("fp8", tmp_path / "out", LayerwiseOptions(max_memory=1 << 20))
    assert not list(tmp_path.iterdir())


def test_a_run_that_went_over_its_ceiling_stops_and_keeps_what_is_done(quantize, tmp_path, monkeypatch):
    monkeypatch.setattr(Ceiling, "check_beforehand", lambda self, *_: None)
    with pytest.raises(CalibrationError, match=r"layers\.0: the process held .* What is done is kept"):
        quantize("fp8", tmp_path / "out", LayerwiseOptions(max_memory=peak_bytes() // 2))
    monkeypatch.undo()
    quantize("fp8", tmp_path / "out")
    assert (tmp_path / "out").exists()

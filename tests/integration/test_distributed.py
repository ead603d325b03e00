"""Two processes calibrate what one does: replicas and FSDP2 shards, in memory and by `mtopt` under torchrun."""

import json
import subprocess
import sys
from pathlib import Path

import mtopt_tinylm

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
BENCH = Path(__file__).parents[2] / "bench" / "distributed_check.py"


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_find_what_one_finds():
    """`max` bit for bit, with replicas and with shards; every algorithm the same on both processes."""
    found = json.loads(run(*TORCHRUN, BENCH))
    assert found["good"]
    assert all("sharded over processes" in refusal for refusal in found["refused"])
    assert {case["model"] for case in found["cases"]} == {"replicas", "FSDP2 shards"}
    assert [c["differ from one process"] for c in found["cases"] if c["algorithm"] == "max"] == [0, 0, 0, 0]


def test_mtopt_under_torchrun_writes_once_what_one_process_writes(tmp_path):
    line = ["quantize", mtopt_tinylm.checkpoint_dir(), "--recipe", "fp8", "--json"]
    line += ["--calib", mtopt_tinylm.calibration_file(), "--samples", "4", "--length", "64", "--batch-size", "1"]
    mtopt = Path(sys.executable).with_name("mtopt")
    run(mtopt, *line, "-o", tmp_path / "one")
    answer = json.loads(run(*TORCHRUN, "--no-python", mtopt, *line, "-o", tmp_path / "two"))
    assert answer["directory"] == str(tmp_path / "two")
    names = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert names == sorted(file.name for file in (tmp_path / "two").iterdir())
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()

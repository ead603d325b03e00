"""Two processes calibrate what one does: replicas and FSDP2 shards, in memory and by `mtopt` under torchrun."""

import json
import subprocess
import sys
from pathlib import Path

import torch

import mtopt_tinylm
from mtcore.calibration.statistics import StatisticsStore

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


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


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


def test_statistics_are_those_of_all_processes_written_by_the_first_and_decide_again(tmp_path):
    """Magnitudes, counts and tokens are those of one process, bit for bit; sums but for the order of two addends a
    batch: four batches, so three additions of fp32 a sum."""
    mtopt = Path(sys.executable).with_name("mtopt")
    line = ["quantize", mtopt_tinylm.checkpoint_dir(), "--recipe", "fp8", "--json"]
    line += ["--calib", mtopt_tinylm.calibration_file(), "--samples", "4", "--length", "64", "--batch-size", "1"]
    run(mtopt, *line, "-o", tmp_path / "one", "--statistics", tmp_path / "kept_one")
    run(*TORCHRUN, "--no-python", mtopt, *line, "-o", tmp_path / "two", "--statistics", tmp_path / "kept_two")
    one, two = (StatisticsStore.open(tmp_path / name, {}) for name in ("kept_one", "kept_two"))
    assert one.key == two.key
    assert one.known.keys() == two.known.keys()
    for site, alone in one.known.items():
        together = two.known[site]
        assert (alone.tokens, alone.batches) == (together.tokens, together.batches)
        for name in ("amax", "least", "counts"):
            mine, theirs = getattr(alone, name), getattr(together, name)
            assert (mine is None and theirs is None) or torch.equal(mine, theirs), (site, name)
        assert all(torch.equal(counts, together.block_counts[w]) for w, counts in alone.block_counts.items())
        for name in ("total", "squares"):
            if (mine := getattr(alone, name)) is not None:
                torch.testing.assert_close(getattr(together, name), mine, rtol=6 * 2**-24, atol=0)
    again = ["requantize", mtopt_tinylm.checkpoint_dir(), "--recipe", "int8_static"]
    for name in ("one", "two"):
        run(mtopt, *again, "--statistics", tmp_path / f"kept_{name}", "-o", tmp_path / f"again_{name}")
    assert files(tmp_path / "again_one") == files(tmp_path / "again_two")
    before = files(tmp_path / "kept_two")
    run(*TORCHRUN, "--no-python", mtopt, *line, "-o", tmp_path / "three", "--statistics", tmp_path / "kept_two")
    assert files(tmp_path / "three") == files(tmp_path / "two")
    assert files(tmp_path / "kept_two") == before, "what is known is not gathered again"

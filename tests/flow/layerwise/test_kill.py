"""A process killed with SIGKILL at random moments, again and again, ends with the bytes of an unbroken one."""

import multiprocessing
import random
import shutil
import time

import pytest

from mtcore.flow.layerwise import is_unfinished
from mtcore.testing.toy_blocks import quantize_toy

KILLS = 6


@pytest.fixture
def start(toy):
    """Starts a run in a process of its own, forked from one that has imported everything."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["mtcore.testing.toy_blocks", "torch._dynamo"])  # torch imports it in a trace

    def begin(out):
        """With statistics, which lie beside the output."""
        kept = out.with_name(f"{out.name}-kept")
        process = processes.Process(target=quantize_toy, args=(toy, out, "fp8", None, 4, kept))
        process.start()
        return process

    return begin


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(start, content, tmp_path):
    start(tmp_path / "first").join()  # imports on the way are paid for here
    begun = time.perf_counter()
    process = start(tmp_path / "unbroken")
    process.join()
    length = time.perf_counter() - begun
    assert process.exitcode == 0
    expected, kept = content(tmp_path / "unbroken"), content(tmp_path / "unbroken-kept")
    out, moments, killed = tmp_path / "out", random.Random(0), 0
    while killed < KILLS:
        process = start(out)
        process.join(moments.uniform(0, length))
        process.kill()
        process.join()
        if out.exists() and not is_unfinished(out):  # it was done before the kill came: start anew
            assert content(out) == expected
            assert content(tmp_path / "out-kept") == kept
            shutil.rmtree(out)
            shutil.rmtree(tmp_path / "out-kept")
        else:
            killed += 1
    process = start(out)
    process.join()
    assert process.exitcode == 0
    assert content(out) == expected
    assert content(tmp_path / "out-kept") == kept
    assert not list(tmp_path.glob("*.run"))

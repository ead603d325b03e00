"""Work gives its result wherever it runs; what a GPU replays is measured by bench/gptq_steps.py."""

import torch

from mtcore.calibration.math.replay import Replay


def test_without_a_gpu_the_work_runs_each_time():
    calls = []

    def work(x, y):
        calls.append(len(x))
        return x + y, x - y

    replay = Replay()
    x = torch.arange(3.0)
    for _ in range(3):
        total, difference = replay(work, x, x)
        assert torch.equal(total, 2 * x)
        assert not difference.any()
    assert calls == [3, 3, 3]

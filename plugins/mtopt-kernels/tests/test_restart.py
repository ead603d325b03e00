"""Where kernels are started again by addresses alone, and where Triton must start them."""

import pytest
import torch
import triton

from mtopt_kernels import restart


@pytest.mark.parametrize("name", ["cuda:1", "cpu"])
def test_kernels_are_restarted_on_the_current_gpu_alone(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert restart.can_restart(torch.device("cuda:0"))
    assert not restart.can_restart(torch.device(name))


@pytest.mark.parametrize("name", ["launch_enter_hook", "launch_exit_hook"])
def test_a_profiler_is_told_by_triton(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    hook = getattr(triton.knobs.runtime, name)
    hook.add(print)
    try:
        assert not restart.can_restart(torch.device("cuda:0"))
    finally:
        hook.remove(print)


def test_a_triton_that_may_start_kernels_otherwise_starts_them_itself(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(restart, "_IS_KNOWN", False)
    assert not restart.can_restart(torch.device("cuda:0"))

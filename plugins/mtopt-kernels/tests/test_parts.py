"""Counters are shared from the first time that they are made, but not where that is only recorded."""

import pytest
import torch

from mtopt_kernels import parts

GPU = torch.device("cuda", 0)


@pytest.fixture
def recording(monkeypatch):
    """A GPU that is not there, and whether its stream records."""
    state = {"on": False}
    zeros = torch.zeros
    monkeypatch.setattr(parts, "_KEPT", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: state["on"])
    monkeypatch.setattr(torch, "zeros", lambda *size, device, **options: zeros(*size, **options))
    return state


def test_counters_are_made_once(recording):
    first = parts.counters(GPU)
    assert parts.counters(GPU) is first
    recording["on"] = True
    assert parts.counters(GPU) is first


def test_counters_that_a_graph_makes_zero_are_that_graphs_own(recording):
    recording["on"] = True
    first = parts.counters(GPU)
    assert parts.counters(GPU) is not first
    recording["on"] = False
    assert parts.counters(GPU) is not first
    assert list(parts._KEPT) == [GPU]

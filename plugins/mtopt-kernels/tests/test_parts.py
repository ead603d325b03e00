"""Counters are shared from the first time that they are made, but not where that is only recorded."""

import threading

import pytest
import torch

from mtopt_kernels import parts

GPU = torch.device("cuda", 0)


@pytest.fixture
def recording(monkeypatch):
    """A GPU that is not there, and whether its stream records."""
    state = {"on": False, "makers": [], "settled": []}
    zeros = torch.zeros

    def made(*size, device, **options):
        state["makers"].append(threading.get_ident())
        return zeros(*size, **options)

    monkeypatch.setattr(parts, "_KEPT", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: state["on"])
    monkeypatch.setattr(torch, "zeros", made)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: state["settled"].append(device))
    return state


def test_counters_are_made_once(recording):
    first = parts.counters(GPU)
    assert parts.counters(GPU) is first
    recording["on"] = True
    assert parts.counters(GPU) is first


def test_another_thread_makes_those_that_stay_since_this_one_may_have_the_memory_of_a_graph(recording):
    parts.counters(GPU)
    assert recording["makers"] != [threading.get_ident()]
    assert recording["settled"] == [GPU]
    recording["on"] = True
    parts._KEPT.clear()
    parts.counters(GPU)
    assert recording["makers"][1:] == [threading.get_ident()]
    assert recording["settled"] == [GPU], "a graph cannot be waited for while it is recorded"


def test_counters_that_a_graph_makes_zero_are_that_graphs_own(recording):
    recording["on"] = True
    first = parts.counters(GPU)
    assert parts.counters(GPU) is not first
    recording["on"] = False
    assert parts.counters(GPU) is not first
    assert list(parts._KEPT) == [GPU]

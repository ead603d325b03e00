"""Symbolic graphs: the same collection, replayed against the real forward, with the reason where there is none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mtcore.errors import UnknownNameError
from mtcore.trace import recursive_trace

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


class Branching(nn.Module):
    """Its control flow depends on a value; its layers do not."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x, scale: float = 2.0):
        y = self.layer(x) * scale
        return y if y.sum() > 0 else -y


class Wrapped(nn.Module):
    """A nested output, a buffer, and an argument by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
        self.register_buffer("shift", torch.ones(2))

    def forward(self, x, *, factor=1.0):
        y = self.mlp(x) + self.shift
        return {"out": y, "twice": (y * factor,)}


@pytest.mark.parametrize("backend", ["record", "fx", "export"])
def test_every_backend_gives_graphs_that_replay(backend):
    model = Wrapped().eval()
    graphs = recursive_trace(model, {"x": X, "factor": 3.0}, backend=backend)
    assert {graphs.name(m) for m in graphs} == {"", "mlp", "mlp.0", "mlp.1", "mlp.2"}
    for module in graphs:
        assert not graphs.is_failed(module), graphs.failure_msg(module)
        assert graphs.replay(module).exact, graphs.replay(module).reason
    assert len(graphs[model].nodes) > 2


@pytest.mark.parametrize("backend", ["fx", "export"])
def test_a_module_that_a_symbolic_tracer_refuses_says_why(backend):
    model = Branching()
    graphs = recursive_trace(model, X, backend=backend)
    assert graphs.is_failed(model)
    assert ": " in graphs.failure_msg(model)
    assert not graphs.is_failed(model.layer)
    assert graphs.replay(model.layer).exact
    assert not recursive_trace(model, X).is_failed(model)


def test_a_forward_that_fails_is_reported_by_every_backend():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 3))
    for backend in ("record", "fx", "export"):
        graphs = recursive_trace(model, X, backend=backend)
        assert "RuntimeError" in graphs.failure_msg(model)
        assert not graphs.is_failed(model[0])


def test_the_model_is_left_as_it_was():
    model = Branching().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recursive_trace(model, X, backend="export")
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_an_unknown_backend_names_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"exprot.*export"):
        recursive_trace(nn.Linear(4, 3), X, backend="exprot")

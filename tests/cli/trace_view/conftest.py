"""Traces of small models of layers, made through the flow with a registry that knows only them."""

import pytest
import torch
from torch import nn

from mtcore.cli.trace_view.score import shown_parameters
from mtcore.flow import LoadedModel, trace_checkpoint
from mtcore.hookspecs import hookimpl
from mtcore.plugins import Registry


class Layer(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gate, self.up = (nn.Linear(width, 2 * width, bias=False) for _ in range(2))
        self.down = nn.Linear(2 * width, width, bias=False)

    def forward(self, x):
        h = self.norm(x)
        return x + self.down(torch.sigmoid(self.gate(h)) * self.up(h))


class Net(nn.Module):
    def __init__(self, layers=3, name="layers"):
        super().__init__()
        torch.manual_seed(0)
        self.stack = name
        self.embed = nn.Linear(8, 8)
        self.add_module(name, nn.ModuleList(Layer() for _ in range(layers)))
        self.head = nn.Linear(8, 4)
        self.spare = nn.Linear(8, 4)

    def forward(self, x):
        x = self.embed(x)
        for layer in self.get_submodule(self.stack):
            x = layer(x)
        return self.head(x)


@pytest.fixture
def net():
    return Net


@pytest.fixture
def traced():
    """Traces a model that is in memory: `traced(Net(), explain=[...])`; its pins are those of a page."""

    def trace(model, source="zoo", **options):
        class Plugin:
            @hookimpl
            def mtcore_load_model(self, source):
                return LoadedModel(model, source)

        registry = Registry.load([Plugin()], discover=False)
        return trace_checkpoint(source, look_at=shown_parameters, registry=registry, **options)

    return trace

"""Channels of two operands: which exist together, and which only meet."""

import pytest
import torch
from torch import nn

from mtcore.trace import TraceInputs, analyze
from mtcore.trace.removal import check_removal


class Experts(nn.Module):
    """An embedding, stacked experts that a router weighs token by token, a norm, a head; with a residual."""

    def __init__(self, norm):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.router = nn.Linear(8, 3, bias=False)
        self.up, self.down = (nn.Parameter(torch.randn(3, a, b)) for a, b in ((8, 6), (6, 8)))
        self.norm = nn.RMSNorm(8) if norm else nn.Identity()
        self.head = nn.Linear(8, 11, bias=False)

    def forward(self, ids):
        x = self.embed(ids).view(-1, 8)
        weights = torch.softmax(self.router(x), -1)
        best = torch.arange(len(x)) % 3
        hidden = torch.relu(torch.bmm(x[:, None], self.up[best]))
        out = torch.bmm(hidden, self.down[best])[:, 0] * weights.gather(1, best[:, None])
        return self.head(self.norm(x + out))


class Gated(nn.Module):
    """Heads, each with one gate for all its channels."""

    def __init__(self):
        super().__init__()
        self.v, self.gate, self.o = nn.Linear(8, 12), nn.Linear(8, 3), nn.Linear(12, 8)

    def forward(self, x):
        heads = self.v(x).view(2, 5, -1, 4) * torch.sigmoid(self.gate(x))[..., None]
        return self.o(heads.reshape(2, 5, -1))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("norm", [False, True])
def test_a_weight_for_each_token_leaves_the_channels_of_the_residual_stream_apart(norm):
    report = analyze(Experts(norm), (torch.arange(10).view(2, 5),))
    (stream,) = [g for g in report.symbols if "embed.weight" in g.parameters]
    assert stream.size == 8
    assert {"down", "up", "router.weight", "head.weight"} <= set(stream.parameters)


def test_a_gate_goes_with_its_head_and_leaves_the_channels_apart():
    model, x = Gated(), torch.randn(2, 5, 8)
    report = analyze(model, (x,))
    (heads,) = report.blocks
    assert (heads.size, heads.state) == (3, "searchable")
    assert "gate.weight" in heads.parameters
    assert check_removal(model, TraceInputs((x,)), heads).outcome == "ok"

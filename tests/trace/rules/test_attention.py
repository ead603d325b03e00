"""A bias of the scores that differs from head to head goes with its head."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mtcore.trace import TraceInputs, analyze
from mtcore.trace.removal import check_removal


class Biased(nn.Module):
    """Two layers of attention with one table of biases, a column a head."""

    def __init__(self, fused):
        super().__init__()
        self.fused = fused
        self.layers = nn.ModuleList(nn.ModuleDict({n: nn.Linear(16, 16) for n in "qkvo"}) for _ in range(2))
        self.bias = nn.Embedding(5, 4)

    def forward(self, x):
        distance = (torch.arange(5)[None] - torch.arange(5)[:, None]).abs()
        bias = self.bias(distance).permute(2, 0, 1)[None]
        for layer in self.layers:
            q, k, v = (layer[n](x).view(2, 5, -1, 4).transpose(1, 2) for n in "qkv")
            if self.fused:
                out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
            else:
                out = torch.softmax(q @ k.mT / 2 + bias, -1) @ v
            x = layer["o"](out.transpose(1, 2).reshape(2, 5, -1))
        return x


@pytest.mark.parametrize("fused", [True, False])
def test_heads_of_all_layers_that_share_a_bias_go_together(fused):
    torch.manual_seed(0)
    model, x = Biased(fused), torch.randn(2, 5, 16)
    report = analyze(model, (x,))
    (heads,) = report.blocks
    assert (heads.size, heads.state) == (4, "searchable")
    assert {"bias.weight", "layers.0.q.weight", "layers.1.o.weight"} <= set(heads.parameters)
    assert check_removal(model, TraceInputs((x,)), heads).outcome == "ok"


class Slopes(Biased):
    """The same with numbers in place of the table: they are written for four heads."""

    def forward(self, x):
        slopes = torch.tensor([0.5, 0.25, 0.125, 0.1]).view(1, 4, 1, 1).expand(1, 4, 5, 5)
        layer = self.layers[0]
        q, k, v = (layer[n](x).view(2, 5, -1, 4).transpose(1, 2) for n in "qkv")
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=slopes)
        return layer["o"](out.transpose(1, 2).reshape(2, 5, -1))


def test_heads_that_meet_a_number_each_stay():
    report = analyze(Slopes(True), (torch.randn(2, 5, 16),))
    assert [b.state for b in report.blocks if "layers.0.q.weight" in b.parameters] == ["constant"]

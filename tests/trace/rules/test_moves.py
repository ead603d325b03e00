"""Moves: padding keeps channels together, patches find their places, reshapes that split channels into lines."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mtcore.trace import TraceInputs, analyze
from mtcore.trace.removal import check_removal


class Padded(nn.Module):
    """A convolution, padding as TensorFlow pads, a depthwise convolution, another convolution."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.last(self.depthwise(F.pad(self.first(x), (0, 1, 0, 1))))


class Patches(nn.Module):
    """Cuts into patches, works on each place of a patch, puts the patches back."""

    def __init__(self, stride):
        super().__init__()
        self.stride = stride
        self.up, self.down = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.up(x)
        columns = F.unfold(x, 2, stride=self.stride)
        return self.down(F.fold(columns, x.shape[-2:], 2, stride=self.stride))


class OneHead(nn.Module):
    """Attention that is written for any number of heads, with one."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        q, k, v = (p(x).view(2, 5, 1, 8).transpose(1, 2) for p in (self.q, self.k, self.v))
        out = torch.softmax(q @ k.mT, -1) @ v
        return self.o(out.transpose(1, 2).reshape(2, 5, 8))


class SharedKeys(nn.Module):
    """Four heads of queries laid out beside the tokens, one head of keys."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = nn.Linear(8, 16), nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(16, 8)

    def forward(self, x):
        q = self.q(x).reshape(2, 5 * 4, 4)
        out = torch.softmax(q @ self.k(x).mT, -1) @ self.v(x)
        return self.o(out.reshape(2, 5, 16))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def searchable(report):
    return [g for g in report.symbols if g.state == "searchable"]


def test_padding_along_positions_keeps_the_channels_of_a_depthwise_convolution():
    model, x = Padded(), torch.randn(2, 3, 6, 6)
    (group,) = searchable(analyze(model, (x,)))
    assert {"first.weight", "depthwise.weight", "last.weight"} <= set(group.parameters)
    assert check_removal(model, TraceInputs((x,)), group).outcome in ("ok", "ok+attributes")


def test_patches_that_are_put_back_beside_each_other_keep_their_labels():
    report = analyze(Patches(2), (torch.randn(2, 3, 6, 6),))
    assert report.unknown_ops == ()
    assert [g.size for g in report.folds] == [8]


def test_patches_that_overlap_claim_nothing():
    report = analyze(Patches(1), (torch.randn(2, 3, 6, 6),))
    assert report.unknown_ops == ()
    assert report.folds == ()


@pytest.mark.parametrize("kind", [OneHead, SharedKeys])
def test_channels_within_the_only_head_do_not_go_one_by_one(kind):
    report = analyze(kind(), (torch.randn(2, 5, 8),))
    assert not any("q.weight" in g.parameters for g in searchable(report))

"""Blocks are found, recorded and replayed; a model whose blocks form no chain is refused in words."""

import pytest
import torch
from torch import nn

from mtcore.calibration.blocks import find_blocks, record_blocks
from mtcore.errors import CalibrationError


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(8, 8)

    def forward(self, x, shift=None, *, scale=1.0):
        return (x + self.proj(x) * scale + (0 if shift is None else shift),)


class Net(nn.Module):
    def __init__(self, skip=None, by_name=False):
        super().__init__()
        self.inp = nn.Linear(4, 8)
        self.layers = nn.ModuleList(Layer() for _ in range(3))
        self.head = nn.Sequential(nn.Linear(8, 2), nn.ReLU())
        self.skip, self.by_name = skip, by_name

    def forward(self, x):
        h = self.inp(x)
        for index, layer in enumerate(self.layers):
            if index == self.skip:
                continue
            shift = x[:, :1] * index
            h = (layer(x=h, shift=shift, scale=0.5) if self.by_name else layer(h, shift, scale=0.5))[0]
        return self.head(h)


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(5, 4, generator=generator) for _ in range(3)]


def loop(batches):
    def run(model):
        for batch in batches:
            model(batch)

    return run


def test_the_list_with_most_wanted_modules_is_found():
    model = Net()
    wanted = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    assert find_blocks(model, wanted) == ("layers.0", "layers.1", "layers.2")
    assert find_blocks(model, ["inp"]) == ("",)


@torch.no_grad()
def test_a_model_without_a_list_is_one_block(batches):
    model, seen = nn.Linear(4, 2), []
    recording = record_blocks(model, [""], loop(batches))
    model.register_forward_hook(lambda m, args, output: seen.append(output))
    for call, hidden in zip(recording.calls[0], recording.hidden, strict=True):
        call.run(model, hidden)
    assert all(torch.equal(y, model(x)) for x, y in zip(batches, list(seen), strict=True))


@pytest.mark.parametrize("by_name", [False, True])
@torch.no_grad()
def test_replaying_block_by_block_gives_the_same_values(batches, by_name):
    model = Net(by_name=by_name)
    recording = record_blocks(model, ["layers.0", "layers.1", "layers.2"], loop(batches))
    for index, batch in enumerate(batches):
        hidden = recording.hidden[index]
        for name, calls in zip(recording.names, recording.calls, strict=True):
            hidden = calls[index].run(model.get_submodule(name), hidden)
        assert torch.equal(model.head(hidden), model(batch))


def test_no_hidden_state_but_the_first_is_kept(batches):
    recording = record_blocks(Net(), ["layers.0", "layers.1", "layers.2"], loop(batches))
    assert all(call.kept.again()[0][0] is None for calls in recording.calls for call in calls)


def test_hooks_are_gone_also_after_an_error(batches):
    model = Net()

    def broken(m):
        m(batches[0])
        raise RuntimeError("data")

    with pytest.raises(RuntimeError, match="data"):
        record_blocks(model, ["layers.0", "layers.1"], broken)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_a_block_that_is_skipped_breaks_the_chain(batches, skip):
    with pytest.raises(CalibrationError, match="block"):
        record_blocks(Net(skip=skip), ["layers.0", "layers.1", "layers.2"], loop(batches))


def test_blocks_that_do_not_feed_each_other_are_refused(batches):
    model = Net()
    model.forward = lambda x: [layer(model.inp(x)) for layer in model.layers]
    with pytest.raises(CalibrationError, match=r"layers\.1: does not read the output"):
        record_blocks(model, ["layers.0", "layers.1", "layers.2"], loop(batches))

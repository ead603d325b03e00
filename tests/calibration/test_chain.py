"""A chain is learned from one forward, its calls are found without running blocks; what is no chain is refused."""

import pytest
import torch
from torch import nn

from mtcore.calibration.blocks import record_blocks
from mtcore.calibration.chain import SharedTensors, chain_calls, learn_chain, run_around
from mtcore.errors import CalibrationError


class Layer(nn.Module):
    def __init__(self, returns="tuple"):
        super().__init__()
        self.proj, self.returns, self.ran = nn.Linear(8, 8), returns, 0

    def forward(self, x, shift=None, *, table=None):
        self.ran += 1
        y = x + self.proj(x) + shift
        return {"tuple": (y, None), "tensor": y, "more": (y, y.mean()), "used": (y, y.mean())}[self.returns]


class Net(nn.Module):
    def __init__(self, returns="tuple", peeks=False):
        super().__init__()
        self.inp, self.out = nn.Linear(4, 8), nn.Linear(8, 2)
        self.layers = nn.ModuleList(Layer(returns) for _ in range(3))
        self.peeks = peeks

    def forward(self, x):
        h, table = self.inp(x), (torch.ones(2), torch.arange(3))
        for layer in self.layers:
            h = layer(h, h.mean() if self.peeks else x[:, :1], table=table)
            h, rest = h if isinstance(h, tuple) else (h, None)
        return self.out(h) + (rest if layer.returns == "used" else 0)


NAMES = ("layers.0", "layers.1", "layers.2")


@pytest.fixture
def batch():
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("returns", ["tuple", "tensor", "more"])
@torch.no_grad()
def test_calls_are_those_of_a_real_forward_but_no_block_runs(batch, returns):
    model = Net(returns)
    chain = learn_chain(model, NAMES, batch)
    real = record_blocks(model, NAMES, lambda m: m(batch))
    ran = [layer.ran for layer in model.layers]
    hidden, calls = chain_calls(model, chain, batch)
    assert ran == [layer.ran for layer in model.layers]
    assert torch.equal(hidden, real.hidden[0])
    for name, call in zip(NAMES, calls, strict=True):
        hidden = call.run(model.get_submodule(name), hidden)
    seen = []
    model.out.register_forward_hook(lambda m, args, y: seen.append(y))
    run_around(model, chain, batch, hidden)
    assert torch.equal(seen[0], model(batch))
    assert not any("forward" in vars(layer) for layer in model.layers)


def test_a_block_that_reads_what_earlier_ones_computed_is_refused(batch):
    with pytest.raises(CalibrationError, match=r"layers\.1: it reads values that the blocks before it computed"):
        learn_chain(Net(peeks=True), NAMES, batch)


def test_a_model_that_uses_what_blocks_return_beside_the_hidden_state_is_refused(batch):
    with pytest.raises(CalibrationError, match=r"layers\.0 … layers\.2: what they return beside .* is used"):
        learn_chain(Net("used"), NAMES, batch)


class Positions(nn.Module):
    """A block that makes a table where it is given none, and hands it on."""

    def __init__(self, width, first, peeks):
        super().__init__()
        self.proj, self.first, self.peeks, self.ran = nn.Linear(width, width), first, peeks, 0
        self.bias = nn.Parameter(torch.arange(float(width))) if first else None

    def forward(self, x, table=None):
        self.ran += 1
        if self.first:
            table = self.bias * (x.mean() if self.peeks else 2)
        return x + self.proj(x) * table, table


class Tables(nn.Module):
    def __init__(self, peeks=False):
        super().__init__()
        self.layers = nn.ModuleList(Positions(4, index == 0, peeks) for index in range(3))

    def forward(self, x):
        table = None
        for layer in self.layers:
            x, table = layer(x, table)
        return x


@torch.no_grad()
def test_a_table_that_the_first_block_makes_for_the_others_is_in_their_calls(batch):
    model = Tables()
    chain = learn_chain(model, NAMES, batch)
    assert chain.table
    ran = [layer.ran for layer in model.layers]
    other = batch[:3] * 2
    hidden, calls = chain_calls(model, chain, other)
    assert [layer.ran for layer in model.layers] == [ran[0] + 1, *ran[1:]]
    for name, call in zip(NAMES, calls, strict=True):
        hidden = call.run(model.get_submodule(name), hidden)
    assert torch.equal(hidden, model(other))


def test_a_table_that_depends_on_the_hidden_state_is_refused(batch):
    with pytest.raises(CalibrationError, match="reads values that the blocks before it computed"):
        learn_chain(Tables(peeks=True), NAMES, batch)


def test_blocks_that_run_twice_a_forward_are_refused(batch):
    model = Net()
    once = model.forward
    model.forward = lambda x: once(x) + once(x)
    with pytest.raises(CalibrationError, match=r"layers\.0: it runs 2 times a forward"):
        learn_chain(model, NAMES, batch)


def test_equal_tables_of_blocks_and_batches_are_kept_once(batch):
    model = Net()
    chain, shared = learn_chain(model, NAMES, batch), SharedTensors()
    first = shared.calls(chain_calls(model, chain, batch)[1])
    other = shared.calls(chain_calls(model, chain, batch + 1)[1])
    tables = {id(call.kept.as_kept()[1]["table"][0]) for call in (*first, *other)}
    assert len(tables) == 1
    assert not torch.equal(first[0].kept.as_kept()[0][1], other[0].kept.as_kept()[0][1])


def test_stand_ins_are_gone_also_after_an_error(batch):
    model = Net()
    chain = learn_chain(model, NAMES, batch)
    model.out.weight.data = torch.zeros(2, 3)
    with pytest.raises(RuntimeError):
        run_around(model, chain, batch, torch.zeros(5, 8))
    assert not any("forward" in vars(layer) for layer in model.layers)

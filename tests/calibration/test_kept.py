"""A block that changes what it is given is run again on what it was given; what cannot be copied is refused."""

import threading

import pytest
import torch
from torch import nn

import mtcore
from mtcore.calibration.blocks import record_blocks
from mtcore.calibration.chain import SharedTensors, chain_calls, learn_chain
from mtcore.calibration.kept import Keeper
from mtcore.errors import CalibrationError

NAMES = ("layers.0", "layers.1", "layers.2")


class Grows:
    """Keys and values that grow, a new tensor each time."""

    def __init__(self):
        self.past = {}

    def update(self, index, x):
        old = self.past.get(index)
        self.past[index] = x if old is None else torch.cat((old, x), dim=1)
        return self.past[index]


class Recurs:
    """A state of a recurrence that is written in place, in tensors that are there from the start."""

    def __init__(self):
        self.state = torch.zeros(3, 1, 32)

    def update(self, index, x):
        return x + self.state[index].mul_(0.5).add_(x.detach().mean(dim=(0, 1)))


class Lists(list):
    """A list that grows in itself."""

    def update(self, index, x):
        self.append(x)
        return sum((old for old in self[: -index - 1]), x)


class Fresh:
    """What `kind` gives on its first use, whenever it is asked."""

    def __init__(self, kind):
        self.kind = kind

    def update(self, index, x):
        return self.kind().update(index, x)


class Layer(nn.Module):
    def __init__(self, index):
        super().__init__()
        self.index, self.norm = index, nn.LayerNorm(32)
        self.queries, self.keys, self.out = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x, cache=None):
        y = self.norm(x)
        keys = cache.update(self.index, self.keys(y))
        scores = (self.queries(y) @ keys.transpose(1, 2)).softmax(-1)
        return x + self.out(scores @ keys)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(Layer(index) for index in range(3))

    def forward(self, x, make):
        cache = make()
        for layer in self.layers:
            x = layer(x, cache=cache)
        return x


KINDS = [Grows, Recurs]
ALGORITHMS = {
    "max": "max",
    "mse": "mse",
    "awq": {"method": "awq", "variant": "full"},
    "smoothquant": "smoothquant",
    "local_hessian": "local_hessian",
    "svdquant": {"method": "svdquant", "rank": 4, "strong": "outputs"},
    "gptq": "gptq",
    "gptq of blocks": {"method": "gptq", "sequential": "blocks"},
    "awq, gptq": ["awq", "gptq"],
    "autoround": {"method": "autoround", "steps": 6},
    "autoround of the model": {"method": "autoround", "steps": 6, "scope": "model"},
}


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 8, 32, generator=generator) for _ in range(3)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_gives_with_a_cache_what_it_gives_without(inputs, name, kind):
    recipe = {"rules": [{"weight": "int4_b32", "input": "fp8"}], "algorithm": ALGORITHMS[name]}
    with_cache, without = (
        mtcore.quantize(Net(), recipe, [{"x": x, "make": make} for x in inputs]).state_dict()
        for make in (kind, lambda: Fresh(kind))
    )
    assert with_cache.keys() == without.keys()
    for key, value in with_cache.items():
        assert torch.equal(value, without[key]), key


@pytest.mark.parametrize("kind", [*KINDS, Lists])
@torch.no_grad()
def test_a_block_gives_the_same_however_often_it_runs(inputs, kind):
    model, seen = Net(), []
    for layer in model.layers:
        layer.register_forward_hook(lambda m, args, y: seen.append(y))
    recording = record_blocks(model, NAMES, lambda m: [m(x, kind) for x in inputs])
    outputs = seen.copy()
    for index, hidden in enumerate(recording.hidden):
        for number, (name, calls) in enumerate(zip(recording.names, recording.calls, strict=True)):
            again = [calls[index].run(model.get_submodule(name), hidden) for _ in range(3)]
            hidden = outputs[3 * index + number]
            assert all(torch.equal(output, hidden) for output in again)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_calls_that_were_found_without_running_blocks_are_also_given_again(inputs, kind):
    model, shared = Net(), SharedTensors()
    batches = [{"x": x, "make": kind} for x in inputs]
    chain = learn_chain(model, NAMES, batches[0])
    for batch in batches:
        hidden, calls = chain_calls(model, chain, batch)
        for name, call in zip(NAMES, shared.calls(calls), strict=True):
            outputs = [call.run(model.get_submodule(name), hidden) for _ in range(2)]
            assert torch.equal(*outputs)
            hidden = outputs[0]
        assert torch.equal(hidden, model(**batch))


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (lambda past, index: past.get(index - 1, 0), "left, so that"),
        (lambda past, index: past[index - 1] if index else 0, r"left, .*\(KeyError: 0\)"),
    ],
)
def test_blocks_that_read_what_earlier_ones_left_cannot_be_run_one_by_one(inputs, read, reason):
    class Shares(Grows):
        def update(self, index, x):
            return super().update(index, x) + read(self.past, index)

    with pytest.raises(CalibrationError, match=r"layers\.1: it reads what the blocks before it " + reason):
        learn_chain(Net(), NAMES, {"x": inputs[0], "make": Shares})


def test_a_method_of_an_object_is_that_of_its_copy():
    cache = Grows()
    (update,), _ = Keeper().keep("a", (cache.update,), {}).again()
    update(0, torch.ones(1))
    assert not cache.past


@torch.no_grad()
def test_a_block_that_writes_into_its_hidden_state_gets_it_back(inputs):
    class Writes(nn.Linear):
        def forward(self, x):
            return x.add_(super().forward(x))

    model = nn.Sequential(Writes(32, 32), Writes(32, 32))
    (x, *_), expected = inputs, model(inputs[0].clone())
    recording = record_blocks(model, ("0", "1"), lambda m: m(x.clone()))
    (hidden,) = recording.hidden
    for block, (call,) in zip(model, recording.calls, strict=True):
        first = call.run(block, hidden)
        assert torch.equal(call.run(block, hidden), first)
        hidden = first
    assert torch.equal(hidden, expected)


def test_a_tensor_that_no_call_changes_is_kept_once_and_one_object_stays_one():
    keeper, mask, cache = Keeper(), torch.ones(3), Recurs()
    first = keeper.keep("a", (mask, cache), {"same": cache})
    cache.update(0, torch.ones(1, 1, 32))
    second = keeper.keep("b", (mask, cache), {})
    assert first.leaves[0] is second.leaves[0] is not mask
    (_, one), kwargs = first.again()
    assert one is kwargs["same"] is not cache
    assert not one.state.any()
    assert second.again()[0][1].state.any()


def test_strides_parameters_modules_and_functions_stay():
    parameter, module = nn.Parameter(torch.ones(2)), nn.Linear(2, 2)
    given = (torch.ones(3, 2).T, parameter, module, len, lambda x: x, torch.float16, None, (1, "two"))
    args, kwargs = Keeper().keep("a", given, {}).again()
    assert args[0].stride() == (1, 2)
    assert all(a is b for a, b in zip(args[1:7], given[1:7], strict=True))
    assert args[7] == given[7]
    assert kwargs == {}


def test_tensors_of_inference_mode_are_kept_as_they_are_now():
    with torch.inference_mode():
        x = torch.zeros(2)
        kept = Keeper().keep("a", (x,), {})
        x.add_(1)
    assert not kept.again()[0][0].any()


def test_what_cannot_be_copied_is_refused_by_its_name(inputs):
    class Locked(Grows):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

    with pytest.raises(
        CalibrationError, match=r"layers\.0: its argument 'cache', a Locked, cannot be copied .*lock"
    ):
        record_blocks(Net(), NAMES, lambda m: m(inputs[0], Locked))
    with pytest.raises(CalibrationError, match=r"the model: its argument 1, a generator, .*use_cache: False"):
        record_blocks(Net(), ("",), lambda m: m(inputs[0], (n for n in "a")))

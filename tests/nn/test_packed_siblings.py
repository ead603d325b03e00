"""PackedSiblings: one call for layers that read one value; each alone where anything is not as the trace saw it."""

import copy
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch._dynamo.backends.debugging import aot_eager

from mtcore.backends import LINEAR, LINEARS, KernelSpec, reference
from mtcore.hookspecs import hookimpl
from mtcore.nn import PackedLinear, packed_siblings
from mtcore.nn.packed_siblings import MOST_WASTED
from mtcore.plugins import Registry
from mtcore.quantization import compress, quantize

CALLS = []
"""How many products each call computed."""


def count_one(*arguments):
    CALLS.append(1)
    return reference.linear(*arguments)


def count_all(x, qdata, *others):
    CALLS.append(len(qdata))
    return reference.linears(x, qdata, *others)


ALONE = LINEAR.implement("siblings_counted", count_one, "CPU")
TOGETHER = LINEARS.implement("siblings_counted", count_all, "CPU")


def alone(*arguments):
    return ALONE(*arguments)


def together(*arguments):
    return TOGETHER(*arguments)


def refuses_nothing(use):
    return None


class Plugin:
    @hookimpl
    def mtcore_kernels(self):
        yield KernelSpec("counted", "linear", refuses_nothing, alone, 5, None, together)


class Gated(nn.Module):
    """Two layers that read one value, and a third; `way` says how the second is called."""

    def __init__(self):
        super().__init__()
        self.gate, self.up = nn.Linear(32, 48), nn.Linear(32, 48, bias=False)
        self.down = nn.Linear(48, 32)
        self.way = "same"

    def forward(self, x):
        x = x * 2
        gate = self.gate(x)
        if self.way == "changed in place":
            x.add_(1)
        if self.way == "another":
            x = x + 1
        if self.way == "raises":
            raise RuntimeError("between the two")
        if self.way == "longer":
            x = torch.cat((x, x))
            return self.down(self.up(x))
        if self.way == "never":
            return self.down(gate)
        if self.way == "twice":
            return self.down(gate * self.up(x) + self.up(x))
        return self.down(gate * self.up(x))


RULES = {"*weight_quantizer": "fp8_row", "*input_quantizer": "fp8"}


def made(make_config, rules=RULES, model=None, **options):
    """A compressed model, by default around Gated, one whose layers are computed alone, and inputs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 32), Gated()) if model is None else model
    batch = torch.randn(6, 32)
    registry = Registry.load([Plugin()], discover=False)
    model = quantize(model, make_config(rules), [batch], registry=registry).eval()
    plain = compress(copy.deepcopy(model), registry=registry, together=False)
    model = compress(model, registry=registry, **options)
    CALLS.clear()
    return model, plain, batch


def test_layers_that_read_one_value_are_computed_by_one_call_with_the_same_bits(make_config):
    model, plain, batch = made(make_config)
    assert model[1].gate.siblings is model[1].up.siblings is not None
    assert model[0].siblings is model[1].down.siblings is None
    result = model(batch)
    assert CALLS == [1, 2, 1]
    assert torch.equal(result, plain(batch))
    assert CALLS == [1, 2, 1, 1, 1, 1, 1]
    assert model[1].gate.siblings._held is None


def test_together_false_leaves_each_alone(make_config):
    model, _, batch = made(make_config, together=False)
    model(batch)
    assert CALLS == [1] * 4


@pytest.mark.parametrize(
    ("way", "calls"),
    [
        ("changed in place", [1, 2, 2, 1]),
        ("another", [1, 2, 2, 1]),
        ("longer", [1, 2, 2, 1]),
        ("never", [1, 2, 1]),
        ("twice", [1, 2, 2, 1]),
    ],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_whatever_the_forward_does_results_are_those_of_layers_alone(make_config, way, calls, mode):
    model, plain, batch = made(make_config)
    model[1].way = plain[1].way = way
    with mode():
        result = model(batch)
        assert calls == CALLS
        assert torch.equal(result, plain(batch))
    assert model[1].gate.siblings._held is None


def test_an_exception_leaves_nothing_behind(make_config):
    model, plain, batch = made(make_config)
    model[1].way = "raises"
    with pytest.raises(RuntimeError, match="between the two"):
        model(batch)
    assert model[1].gate.siblings._held is None
    model[1].way = "same"
    assert torch.equal(model(batch), plain(batch))


def test_a_kernel_that_fails_leaves_nothing_behind(make_config):
    model, _, _ = made(make_config)
    with pytest.raises(RuntimeError):
        model[1](torch.randn(2, 7))
    assert model[1].gate.siblings._held is None
    assert not model[1].gate.siblings._open


def test_batches_of_any_shape_are_taken(make_config):
    model, plain, _ = made(make_config)
    for shape in ((32,), (2, 3, 32), (0, 32), (1, 32)):
        batch = torch.randn(shape)
        result = model(batch)
        assert result.shape == shape
        assert torch.equal(result, plain(batch))


@pytest.mark.parametrize(
    "places",
    [
        ("stream 1", "stream 2"),
        (("stream 1", False), ("stream 1", True)),
        (("stream 1", True), ("stream 1", False)),
    ],
    ids=["another stream", "a graph's beginning", "a graph's end"],
)
def test_what_another_stream_or_a_graph_computes_is_not_taken(make_config, monkeypatch, places):
    model, plain, batch = made(make_config)
    steps = iter(places)
    monkeypatch.setattr(packed_siblings, "_place_of", lambda x: next(steps))
    assert torch.equal(model(batch), plain(batch))
    assert CALLS[:4] == [1, 2, 2, 1]


class Again(Gated):
    """Calls itself between the two layers, `depth` times."""

    depth = 2

    def forward(self, x):
        gate = self.gate(x)
        if self.depth:
            self.depth -= 1
            gate = gate + self.up(self(x + 1))[:, :1]
            self.depth += 1
        return self.down(gate * self.up(x))


def test_a_module_that_calls_itself_computes_what_layers_alone_do(make_config):
    model, plain, batch = made(make_config)
    for each in (model, plain):
        each[1].__class__ = Again
    for _ in range(MOST_WASTED + 1):
        result = model(batch)
    assert torch.equal(result, plain(batch))
    assert model[1].gate.siblings._held is None
    assert not model[1].gate.siblings._open


class Around(nn.Module):
    """Two layers that read one value, and between them a module with two of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)
        self.inner = Gated()

    def forward(self, x):
        x = x * 2
        return self.inner(self.first(x)) + self.second(x)


def test_modules_inside_one_another_hold_their_own(make_config):
    model, plain, batch = made(make_config, model=nn.Sequential(Around()))
    around = model[0]
    assert around.first.siblings is around.second.siblings is not around.inner.gate.siblings is not None
    result = model(batch)
    assert CALLS == [2, 2, 1]
    assert torch.equal(result, plain(batch))


class Meeting(Gated):
    """Two threads wait for each other between its two layers."""

    barrier = threading.Barrier(2, timeout=60)

    def forward(self, x):
        gate = self.gate(x)
        self.barrier.wait()
        return self.down(gate * self.up(x))


@pytest.mark.parametrize("same", [True, False])
def test_two_threads_get_what_layers_alone_compute(make_config, same):
    model, plain, batch = made(make_config)
    batches = [batch, batch if same else batch + 1]
    expected = [plain[1].down(plain[1].gate(each) * plain[1].up(each)) for each in batches]
    model[1].__class__ = Meeting
    with ThreadPoolExecutor(2) as pool:
        for _ in range(2 * MOST_WASTED):
            for result, wanted in zip(pool.map(model[1], batches), expected, strict=True):
                assert torch.equal(result, wanted)


def test_results_share_no_memory_with_each_other(make_config):
    model, _, batch = made(make_config)
    siblings = model[1].gate.siblings
    siblings._begin(model[1], ())
    gate, up = (layer(batch) for layer in siblings.layers)
    before = up.clone()
    gate.zero_()
    assert torch.equal(up, before)
    assert gate.is_contiguous()
    assert up.is_contiguous()


def test_a_layer_called_outside_of_the_module_around_computes_alone(make_config):
    model, plain, batch = made(make_config)
    result = model[1].up(batch)
    assert CALLS == [1]
    assert torch.equal(result, plain[1].up(batch))


def test_inference_tensors_are_shared_too(make_config):
    model, plain, batch = made(make_config)
    with torch.inference_mode():
        result = model(batch)
    assert CALLS == [1, 2, 1]
    assert torch.equal(result, plain(batch))


def test_siblings_that_never_meet_compute_alone_after_some_time(make_config, caplog):
    model, plain, batch = made(make_config)
    model[1].way = plain[1].way = "another"
    for _ in range(MOST_WASTED):
        model(batch)
    assert "2 layers that read one value are called with different tensors: each computes alone" in caplog.messages
    CALLS.clear()
    assert torch.equal(model(batch), plain(batch))
    assert CALLS == [1] * 8


def test_a_rare_miss_is_forgotten(make_config):
    model, _, batch = made(make_config)
    for _ in range(2 * MOST_WASTED):
        model[1].way = "never"
        model(batch)
        model[1].way = "same"
        model(batch)
    CALLS.clear()
    model(batch)
    assert CALLS == [1, 2, 1]


def test_a_sibling_that_another_module_replaced_is_not_missed(make_config):
    model, _, batch = made(make_config)
    model[1].up = nn.Linear(32, 48)
    with torch.no_grad():
        assert model(batch).shape == batch.shape


def saved_and_loaded(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, saved_and_loaded])
def test_a_copy_is_computed_together_by_itself(make_config, copied):
    model, plain, batch = made(make_config)
    twin = copied(model)
    assert twin[1].gate.siblings is twin[1].up.siblings is not model[1].gate.siblings
    assert twin[1].gate.siblings.layers == (twin[1].gate, twin[1].up)
    assert torch.equal(twin(batch), plain(batch))
    assert CALLS[:3] == [1, 2, 1]
    assert not model[1].gate.siblings._open


def test_dtypes_and_state_are_each_layer_s_own(make_config):
    model, plain, batch = made(make_config)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert len(list(model.modules())) == len(list(plain.modules()))
    model, plain = model.to(torch.float64), plain.to(torch.float64)
    assert torch.equal(model(batch.double()), plain(batch.double()))


def test_inputs_that_are_quantized_otherwise_after_loading_are_not_shared(make_config):
    model, plain, batch = made(make_config)
    state = model.state_dict()
    state["1.up.input_amax"] = state["1.up.input_amax"] / 4
    for each in (model, plain):
        each.load_state_dict(state)
    assert torch.equal(model(batch), plain(batch))
    assert CALLS == [1] * 8
    state["1.up.input_amax"] = state["1.gate.input_amax"]
    model.load_state_dict(state)
    CALLS.clear()
    model(batch)
    assert CALLS == [1, 2, 1]


def test_state_that_is_assigned_to_a_model_without_values_joins_its_layers_again(make_config):
    model, plain, batch = made(make_config)
    state = model.state_dict()
    model = model.to("meta")
    model[1].gate.siblings.layers = model[1].gate.siblings.layers[::-1]
    model[1].gate.place, model[1].up.place = 1, 0
    model.load_state_dict(state, assign=True)
    assert torch.equal(model(batch), plain(batch))
    assert CALLS[:3] == [1, 2, 1]


def test_layers_of_different_formats_or_with_quantizers_of_their_own_are_not_joined(make_config):
    model, _, _ = made(make_config, {**RULES, "*up.weight_quantizer": "int8_row"})
    assert model[1].gate.siblings is None
    model, _, _ = made(make_config, {**RULES, "*output_quantizer": "fp8"})
    assert model[1].gate.siblings is not None  # results are quantized by each layer itself


def test_a_layer_of_its_own_device_computes_alone(make_config):
    model, _, _ = made(make_config)
    siblings = model[1].gate.siblings
    model[1].up.to("meta")
    siblings._begin(model[1], ())
    model[1].gate(torch.randn(3, 32))
    assert CALLS == [1]


@pytest.mark.parametrize(
    ("way", "calls"), [("same", [1, 2, 1]), ("another", [1] * 4), ("never", [1] * 3), ("twice", [1] * 5)]
)
def test_under_torch_compile_it_is_one_graph_that_is_compiled_twice_at_most(make_config, way, calls):
    model, plain, batch = made(make_config)
    model[1].way = plain[1].way = way
    expected = plain(batch)
    graphs = []

    def counted(graph, inputs):
        graphs.append(graph)
        return aot_eager(graph, inputs)

    torch._dynamo.reset()
    compiled = torch.compile(model, backend=counted, fullgraph=True)
    for _ in range(3):
        CALLS.clear()
        assert torch.equal(compiled(batch), expected)
    assert calls == CALLS
    assert len(graphs) == (1 if way == "same" else 2)
    assert model[1].gate.siblings._held is None
    assert torch.equal(compiled(batch.repeat(2, 1)), expected.repeat(2, 1))


def test_an_unquantized_root_with_the_layers_at_its_top_is_the_module_around(make_config):
    torch.manual_seed(0)
    registry = Registry.load([Plugin()], discover=False)
    batch = torch.randn(4, 32)
    model = compress(quantize(Gated(), make_config(RULES), [batch], registry=registry), registry=registry)
    CALLS.clear()
    model(batch)
    assert CALLS == [2, 1]
    assert isinstance(model.gate, PackedLinear)

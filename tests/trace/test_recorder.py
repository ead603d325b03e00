import pytest
import torch
from torch import fx, nn

from mtcore.errors import TraceError
from mtcore.trace import NoGraphError, recursive_trace


class Net(nn.Module):
    """A module whose forward is the function it was given."""

    def __init__(self, body, **children):
        super().__init__()
        self.body = body
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, *args, **kwargs):
        return self.body(self, *args, **kwargs)


def replays(model, inputs):
    graphs = recursive_trace(model, inputs)
    return {graphs.name(m): graphs.replay(m).reason for m in graphs if not graphs.replay(m)}


def test_the_reference_sample_runs_as_written():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    seen = []
    graphs = recursive_trace(model)
    for module in graphs:
        graph = graphs[module]
        failed = graphs.is_failed(module)
        msg = graphs.failure_msg(module)
        seen.append((isinstance(graph, fx.Graph), failed, msg))
    assert seen == [(True, False, None)] * 3


def test_every_called_module_has_a_graph_that_replays_bit_for_bit(block, x):
    graphs = recursive_trace(block, x)
    assert [graphs.name(m) for m in graphs] == ["", "norm", "q", "drop", "k", "v", "o"]
    assert all(graphs.replay(m) for m in graphs)
    assert len(graphs) == 7


def test_a_graph_names_submodules_parameters_and_operators(block, x):
    nodes = list(recursive_trace(block, x)[block].nodes)
    assert [n.target for n in nodes if n.op == "call_module"] == ["norm", "q", "drop", "k", "v", "o"]
    linear = list(recursive_trace(block, x)[block.q].nodes)
    assert [n.target for n in linear if n.op == "get_attr"] == ["weight", "bias"]


def test_a_tampered_graph_does_not_replay(block, x):
    graphs = recursive_trace(block, x)
    node = next(n for n in graphs[block].nodes if n.target == "k")
    node.target = "q"
    assert not graphs.replay(block)


def test_a_module_that_is_not_called_says_so(block, x):
    block.extra = nn.Linear(2, 2)
    graphs = recursive_trace(block, x)
    assert graphs.failure_msg(block.extra) == "not called by the example inputs"
    assert graphs.is_unvisited(block.extra)
    assert not graphs.is_unvisited(block.q)
    assert graphs.calls(block.extra) == 0
    with pytest.raises(NoGraphError, match=r"extra.*not called"):
        graphs[block.extra]
    with pytest.raises(KeyError, match="not a module of the traced"):
        graphs[nn.Linear(2, 2)]


def test_a_forward_that_raises_is_recorded_up_to_where_it_failed(x):
    def body(self, t):
        raise ValueError("no luck") if self.lin(t) is not None else None

    model = Net(body, lin=nn.Linear(8, 8))
    graphs = recursive_trace(model, x)
    assert graphs.failure_msg(model) == "ValueError: no luck"
    assert graphs.failure_msg(model.lin) is None
    assert graphs.is_failed(model)
    assert not graphs.replay(model)


def test_a_failure_that_the_parent_handles_fails_only_the_child(x):
    def parent(self, t):
        try:
            return self.child(t)
        except RuntimeError:
            return t + 1

    def child(self, t):
        raise RuntimeError("kernel missing")

    model = Net(parent, child=Net(child))
    graphs = recursive_trace(model, x)
    assert graphs.failure_msg(model.child) == "RuntimeError: kernel missing"
    assert graphs.failure_msg(model) is None
    assert graphs.replay(model)


def test_in_place_writes_replay(x):
    def body(self, t):
        h = torch.zeros(2, 4, 8)
        h[:, 1] = t[:, 0]
        h += 1
        t.mul_(2)
        return h.add_(t), t

    assert replays(Net(body), x.clone()) == {}


def test_operators_properties_and_constants_replay(x):
    def body(self, t):
        table = torch.arange(8.0)
        return 2**t, 1 - t, 3 / t.T, t.mT @ t, -t, t[..., 1:] > 0, abs(t), table + t, t.data

    assert replays(Net(body), x[0]) == {}


def test_a_tensor_held_outside_the_module_is_captured(x):
    held = torch.randn(8)
    model = Net(lambda self, t: t + held)
    graphs = recursive_trace(model, x)
    assert graphs.replay(model)
    assert list(graphs.record(model).captured) == ["_captured_0"]


def test_nested_arguments_and_results_replay(x):
    def body(self, pair, extra=None):
        return {"sum": pair[0] + pair[1]["b"], "n": 3, "pair": (extra, pair[0])}

    inner = Net(body)
    model = Net(lambda self, t: self.inner((t, {"b": t * 2}), extra=t + 1)["pair"][0], inner=inner)
    assert replays(model, x) == {}


def test_random_numbers_replay_though_the_generator_has_moved(x):
    model = Net(lambda self, t: t + torch.rand(8), lin=nn.Linear(8, 8))
    assert replays(model, x) == {}


def test_a_module_called_twice_counts_its_calls(x):
    model = Net(lambda self, t: self.lin(self.lin(t)), lin=nn.Linear(8, 8))
    graphs = recursive_trace(model, x)
    assert graphs.calls(model.lin) == 2
    assert graphs.replay(model.lin)


def test_a_sibling_that_is_called_from_inside_replays(x):
    sibling = nn.Linear(8, 8)
    inner = Net(lambda self, t: self.body.sibling(t))
    inner.body = type("Call", (), {"sibling": sibling, "__call__": lambda s, m, t: s.sibling(t)})()
    model = Net(lambda self, t: self.inner(t), inner=inner, sibling=sibling)
    graphs = recursive_trace(model, x)
    assert graphs.replay(inner)
    assert list(graphs.record(inner).outer.values()) == [sibling]


def test_without_values_there_is_no_replay(block, x):
    with pytest.raises(TraceError, match="keep_values"):
        recursive_trace(block, x, keep_values=False).replay(block)


def test_symbol_of_calls_is_restored_after_an_exception(x):
    original = nn.Module.__call__
    recursive_trace(Net(lambda self, t: 1 / 0), x)
    assert nn.Module.__call__ is original


@pytest.mark.parametrize(
    "inner", [lambda held, i: (held + 1) * i, lambda held, i: torch.ones((), dtype=torch.bool) & (i < held).all()]
)
def test_what_a_vmap_gives_is_kept(x, inner):
    held = torch.arange(4)

    def body(self, t):
        mask = torch.vmap(lambda i: inner(held, i))(torch.arange(4))
        return t.sum(-1) + mask.sum()

    graphs = recursive_trace(model := Net(body), x)
    assert graphs.failure_msg(model) is None
    assert graphs.replay(model)


def test_a_module_that_writes_into_the_list_it_is_given_replays(x):
    def double_first(self, items):
        items[0] = items[0] * 2
        return items[0]

    inner = Net(double_first)
    assert recursive_trace(model := Net(lambda self, t: self.inner([t, t + 1]) + t, inner=inner), x).replay(model)

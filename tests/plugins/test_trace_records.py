"""Rules of operations and symbols that a plugin brings reach everything that traces through a registry."""

import pytest
import torch
from torch import nn

from mtcore.builtin.trace import mtcore_trace_rules
from mtcore.errors import PluginError, TraceError
from mtcore.flow import LoadedModel, trace_checkpoint
from mtcore.plugins import Registry
from mtcore.quantization import trace_model
from mtcore.trace import (
    Invariance,
    Symbol,
    SymbolSpec,
    SymInfo,
    TraceInputs,
    TraceRuleSpec,
    analyze,
    builtin_rules,
)


@torch.library.custom_op("mtcore_test::leak", mutates_args=())
def leak(x: torch.Tensor) -> torch.Tensor:
    """A leaky ReLU: leak(s x) = s leak(x) for s > 0."""
    return torch.where(x > 0, x, 0.1 * x)


class Leaky(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.down(leak(self.up(x)))


class Half(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 0.5


def same(context, call):
    return context.get(call.args[0])


def out_only(module):
    return SymInfo({"out": Symbol(is_searchable=True, parameter="weight", axis=0)})


LEAK = TraceRuleSpec("mtcore_test::leak", same)


def load(*extra):
    return Registry.load(extra, discover=False, strict=True)


@pytest.fixture
def x():
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


def test_without_a_rule_the_operation_is_counted_and_nothing_folds_through_it(x):
    report = load().trace_model(Leaky(), x)
    assert [count.what for count in report.unknown_ops] == ["mtcore_test::leak"]
    assert report.folds == ()


def test_a_plugins_rule_gives_folds_that_are_exact(make_plugin, x):
    registry = load(make_plugin("leaky", mtcore_trace_rules=lambda: [LEAK]))
    model = Leaky()
    report = trace_model(model, x, registry=registry)
    assert report.unknown_ops == ()
    [group] = report.folds
    assert set(group.parameters) == {"up.weight", "up.bias", "down.weight"}
    check = Invariance(model, TraceInputs.of(x)).check(group)
    assert check.exact
    assert check.powered


def test_a_tracer_that_takes_no_rules_is_still_called(make_plugin, x):
    report = analyze(Leaky(), x)
    assert (
        load(make_plugin("own", mtcore_trace_model=lambda model, inputs: report)).trace_model(Leaky(), x) is report
    )


def test_a_tracer_is_given_the_rules_of_all_plugins(make_plugin, x):
    seen = []
    registry = load(
        make_plugin("leaky", mtcore_trace_rules=lambda: [LEAK]),
        make_plugin("own", mtcore_trace_model=lambda rules: seen.append(rules.find(LEAK.name).run)),
    )
    registry.trace_model(Leaky(), x)
    assert seen == [same]


def test_symbols_are_found_with_a_plugins_rules_symbols_and_inputs(make_plugin, x):
    asked = []

    def inputs(model):
        asked.append(model)
        return TraceInputs.of(x)

    model = nn.Sequential(Leaky(), Half(3, 8), nn.Linear(8, 2))
    plugin = make_plugin(
        "leaky",
        mtcore_trace_rules=lambda: [LEAK],
        mtcore_symbols=lambda: [SymbolSpec("mine.Half", Half, out_only)],
        mtcore_example_inputs=inputs,
    )
    names = [name for name, _ in load(plugin).analyze_symbols(model).named_symbols("searchable")]
    assert names == ["0.up.out_features", "0.down.out_features", "1.out"]
    assert asked == [model]


def test_two_symbol_records_of_one_type_are_an_error_that_names_both(make_plugin):
    registry = load(make_plugin("twice", mtcore_symbols=lambda: [SymbolSpec("mine.Linear", nn.Linear, out_only)]))
    with pytest.raises(TraceError, match=r"Linear are given by 'nn.Linear' and by 'mine.Linear'"):
        registry.symbol_rules()


def test_a_rule_of_an_operation_that_has_one_is_an_error_that_names_both(make_plugin):
    plugin = make_plugin("bold", mtcore_trace_rules=lambda: [TraceRuleSpec("aten::mm", same)])
    with pytest.raises(PluginError, match=r"the trace rule 'aten::mm' is brought by .*builtin.* and by .*bold"):
        load(plugin)


@pytest.mark.parametrize("name", ["leak", "lib::", "::leak", "lib::leak.default", "lib::leak_"])
def test_a_name_that_no_operation_is_looked_up_by_is_refused(name):
    with pytest.raises(TraceError, match="trace rule"):
        TraceRuleSpec(name, same)


def test_the_rules_of_a_registry_are_new_ones_each_time():
    registry = load()
    registry.op_rules().add("mtcore_test::leak", same)
    assert registry.op_rules().find("mtcore_test::leak") is None


def test_the_built_in_records_hold_all_that_the_built_in_rules_do():
    assert [spec.name for spec in mtcore_trace_rules()] == [spec.name for spec in builtin_rules().specs()]
    routed = [spec.name for spec in mtcore_trace_rules() if spec.answer is not None]
    assert all(load().op_rules().answers(name) for name in routed)
    assert routed == [spec.name for spec in builtin_rules().specs() if builtin_rules().answers(spec.name)] != []


def test_a_checkpoints_explanations_use_a_plugins_rules(make_plugin, x):
    hooks = {
        "mtcore_load_model": lambda source: LoadedModel(Leaky(), source),
        "mtcore_example_inputs": lambda model: TraceInputs.of(x),
    }
    known = load(make_plugin("leaky", mtcore_trace_rules=lambda: [LEAK], **hooks))
    unknown = load(make_plugin("zoo", **hooks))
    pinned = [
        trace_checkpoint("zoo", explain=["up.weight:0"], registry=registry).answers[0].pinned
        for registry in (known, unknown)
    ]
    assert pinned == [0, 6]

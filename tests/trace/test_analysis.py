import copy
import dataclasses

import pytest
import torch
from torch import nn

from mtcore.errors import TraceError
from mtcore.trace import (
    Analysis,
    CLType,
    Symbol,
    SymbolRules,
    SymInfo,
    TraceReport,
    analyze,
    analyze_symbols,
    builtin_symbols,
    verify,
)
from mtcore.trace.invariance import distance, run
from mtcore.trace.removal import check_removal, mask, remove


@pytest.fixture
def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def test_explain_leads_to_the_operation_that_pins(mlp):
    analysis = Analysis(mlp)
    assert analysis.explain("0.weight", 0, 2) == ()
    assert analysis.explain("2.bias", 0, 1) == (
        "2.bias[axis 0: 1] goes with 2.weight[axis 0: 1]: aten::addmm in 2",
        "2.weight[axis 0: 1] pinned: aten::tanh in 3",
    )
    assert analysis.explain("4.weight", 0, 0)[-1].endswith("output in the model")
    with pytest.raises(TraceError, match="no scale"):
        analysis.explain("0.weight", 0, 99)


def test_a_wrong_group_is_found_among_right_ones_and_dropped(mlp):
    report = analyze(mlp)
    (right,) = report.folds
    slices = right.down[0]
    rolled = dataclasses.replace(slices, channels=slices.channels[1:] + slices.channels[:1])
    wrong = dataclasses.replace(right, name="planted", down=(rolled,))
    proof = verify(mlp, dataclasses.replace(report, folds=(wrong, right)))
    assert proof.report.folds == (right,)
    assert proof.dropped == ("fold planted: outputs change",)
    assert proof.error < 1e-12


def test_verify_leaves_the_model_as_it_was(mlp):
    before = {k: v.clone() for k, v in mlp.state_dict().items()}
    verify(mlp, analyze(mlp), removals=True)
    assert all(torch.equal(v, before[k]) for k, v in mlp.state_dict().items())


def test_removed_channels_equal_masked_ones(mlp):
    analysis = Analysis(mlp)
    assert [(g.size, g.state) for g in analysis.report.symbols] == [
        (6, "searchable"),
        (5, "searchable"),
        (3, "constant"),
    ]
    for group in analysis.report.symbols[:2]:
        check = check_removal(mlp, analysis.inputs, group)
        assert (check.outcome, check.effect > 0.01) == ("ok", True)


def test_a_wrong_channel_group_is_a_mismatch(mlp):
    analysis = Analysis(mlp)
    group = analysis.report.symbols[0]
    parts = tuple(
        dataclasses.replace(p, channels=p.channels[1:] + p.channels[:1]) if p.parameter == "2.weight" else p
        for p in group.members
    )
    wrong = dataclasses.replace(group, members=parts)
    assert check_removal(mlp, analysis.inputs, group, [1]).outcome == "ok"
    masked, cut = copy.deepcopy(mlp), copy.deepcopy(mlp)
    mask(masked, group, {1})
    remove(cut, wrong, {1})
    assert distance(run(cut, analysis.inputs)[0], run(masked, analysis.inputs)[0]) > 1e-3


def test_a_report_with_groups_survives_json(mlp):
    report = analyze(mlp)
    assert report.folds
    assert TraceReport.from_json(report.to_json()) == report


def test_symbols_of_a_stack_are_linked(mlp):
    symbols = {name: s.state for name, s in analyze_symbols(mlp).named_symbols()}
    assert symbols == {
        "0.in_features": "constant", "0.out_features": "searchable", "2.in_features": "dynamic",
        "2.out_features": "searchable", "4.in_features": "dynamic", "4.out_features": "constant",
    }  # fmt: skip


def test_a_symbol_is_in_one_of_four_states():
    root, follower, other = Symbol(is_searchable=True), Symbol(), Symbol()
    follower.link_to(root)
    assert [s.state for s in (root, follower, other)] == ["searchable", "dynamic", "free"]
    with pytest.raises(TraceError, match="dynamic symbol cannot be linked"):
        follower.link_to(other)
    root.disable()
    assert [s.state for s in (root, follower)] == ["constant", "constant"]
    assert not follower.is_sortable
    with pytest.raises(TraceError, match="elastic_dims"):
        Symbol(cl_type=CLType.INCOMING)


def test_a_subclass_with_its_own_forward_has_no_symbols_until_registered():
    class Same(nn.Linear):
        pass

    class Other(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2

    rules = builtin_symbols()
    assert rules.find(Same(2, 2)) is not None
    assert rules.find(Other(2, 2)) is None
    rules.register(Other)(lambda module: SymInfo({"width": Symbol()}))
    assert rules.find(Other(2, 2)) is not None
    rules.unregister(Other)
    assert rules.find(Other(2, 2)) is None
    assert SymbolRules().find(nn.Linear(2, 2)) is None


def test_a_constant_group_names_the_operation_that_needs_its_channels():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    constant = {group.size: group.reason for group in analyze(model).symbols if group.state == "constant"}
    assert constant == {3: "output needs them"}


class Short(nn.Module):
    """A convolution along the tokens, channel by channel, between two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.begin, self.end = nn.Linear(4, 6), nn.Linear(6, 3)
        self.conv = nn.Conv1d(6, 6, 3, groups=6, padding=2)

    def forward(self, x):
        return self.end(self.conv(self.begin(x).mT)[..., :-2].mT)


def test_of_several_free_factors_the_one_between_linear_layers_gives_way():
    torch.manual_seed(0)
    model, x = Short(), torch.randn(2, 5, 4)
    report = analyze(model, x)
    assert [g.parameters for g in report.folds] == [("begin.weight", "begin.bias", "conv.bias", "end.weight")]
    assert verify(model, report, x).dropped == ()

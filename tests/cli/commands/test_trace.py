"""`mtopt trace` on a small model."""

import json

import pytest
import torch
from torch import nn

from mtcore.flow import LoadedModel
from mtcore.hookspecs import hookimpl
from mtcore.plugins import Registry
from mtcore.trace import TraceReport


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(3))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


@pytest.fixture
def model(monkeypatch):
    model = Model()

    class Plugin:
        @hookimpl
        def mtcore_load_model(self, source):
            return LoadedModel(model, source) if source == "zoo" else None

    registry = Registry.load([Plugin()], discover=False)
    monkeypatch.setattr("mtcore.plugins.default_registry", lambda: registry)
    return model


def test_the_groups_are_drawn(model, mtopt):
    shown = mtopt("trace", "zoo")
    assert shown.code == 0
    assert "layers.[0-1].weight[0] → layers.[1-2].weight[1]" in shown.out
    assert "Model: 4 modules called" in shown.out
    assert "trace:" in shown.err


def test_json_is_the_whole_report(model, mtopt):
    shown = mtopt("trace", "zoo", "--json")
    data = json.loads(shown.out)
    assert TraceReport.from_dict(data).folds
    assert data["source"] == "zoo"


def test_a_question_is_answered_alone(model, mtopt):
    shown = mtopt("trace", "zoo", "--explain", "layers.2.weight:0:1")
    assert shown.out.splitlines() == [
        "layers.2.weight axis 0: 4 of 4 scales are pinned; index 1:",
        "  layers.2.weight[axis 0: 1] pinned: output in the model",
    ]


def test_a_verification_is_told_with_its_figures(model, mtopt):
    shown = mtopt("trace", "zoo", "--verify", "--removals")
    assert shown.code == 0
    assert "verified: all 2 fold groups" in shown.out
    assert "2 of 2 groups removed in part give the masked model; 0 groups dropped" in shown.out


def test_a_dropped_group_is_shown_and_fails(model, mtopt, monkeypatch):
    monkeypatch.setattr("mtcore.trace.invariance.TOLERANCE", -1.0)  # nothing is exact enough
    shown = mtopt("trace", "zoo", "--verify")
    assert shown.code == 1
    assert "dropped fold layers.*.weight → layers.*.weight: outputs change (2 times)" in shown.out


def test_a_forward_that_fails_is_shown_and_fails(model, mtopt):
    model.layers[1] = nn.Linear(5, 4)
    shown = mtopt("trace", "zoo")
    assert shown.code == 1
    assert "failed layers.1: RuntimeError" in shown.out


def test_a_page_is_written(model, mtopt, tmp_path):
    shown = mtopt("trace", "zoo", "--html", tmp_path / "page.html")
    assert shown.code == 0
    assert f"page: {tmp_path / 'page.html'}" in shown.out
    assert "layers.1" in (tmp_path / "page.html").read_text().replace("<wbr>", "")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("where", [".", "nowhere/page.html", "file/page.html"])
def test_a_page_that_cannot_be_written_is_refused_before_the_forward(model, mtopt, tmp_path, where):
    (tmp_path / "file").write_text("")
    shown = mtopt("trace", "zoo", "--html", tmp_path / where)
    assert shown.code == 2
    assert "--html" in shown.err
    assert model.calls == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["nowhere"], "nowhere"),
        (["zoo", "--explain", "layers.0.wieght"], "did you mean layers.0.weight"),
        (["zoo", "--inputs", "nowhere.safetensors"], "nowhere.safetensors: no such file"),
    ],
)
def test_bad_input_is_one_clear_line_before_the_forward(model, mtopt, line, message):
    shown = mtopt("trace", *line)
    assert shown.code == 1
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert model.calls == 0


def test_removals_without_verification_are_a_usage_error(model, mtopt):
    assert mtopt("trace", "zoo", "--removals").code == 2

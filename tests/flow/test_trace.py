"""Tracing a checkpoint: what is reported, what is asked, and what is refused before the long work."""

import json
from collections import Counter

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mtcore.errors import ModelError, TraceError
from mtcore.flow import LoadedModel, trace_checkpoint
from mtcore.hookspecs import hookimpl
from mtcore.plugins import Registry
from mtcore.trace import TraceReport


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 4, bias=False)
        self.tied = nn.Linear(6, 4, bias=False)
        self.tied.weight = self.down.weight
        self.seen = []

    def forward(self, x, flip=False):
        self.seen.append((tuple(x.shape), flip))
        return self.down(torch.relu(self.up(x)))


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def phases():
    return Counter()


@pytest.fixture
def trace(model, phases):
    """Traces `model`, whose loader gives an input of two rows and a switch."""

    class Plugin:
        @hookimpl
        def mtcore_load_model(self, source):
            if source != "zoo":
                return None
            return LoadedModel(model, source, example_inputs={"x": torch.ones(2, 4), "flip": True})

        @hookimpl
        def mtcore_before_phase(self, phase):
            phases[phase] += 1

    def call(source="zoo", **options):
        return trace_checkpoint(source, registry=Registry.load([Plugin()], discover=False), **options)

    return call


def test_the_report_comes_from_the_inputs_of_the_loader(trace, model):
    traced = trace()
    assert [fold.size for fold in traced.report.folds] == [6]
    assert model.seen == [((2, 4), True)]
    assert traced.shapes["up.weight"] == (6, 4)
    assert "tied.weight" not in traced.shapes
    assert not traced.wrong


def test_it_becomes_json_from_which_the_report_comes_back(trace):
    traced = trace(removals=True, explain=["up.weight"])
    data = json.loads(json.dumps(traced.to_dict()))
    assert TraceReport.from_dict(data) == traced.report
    assert data["proof"]["removals"][0]["outcome"] == "ok"
    assert [answer["axes"] for answer in data["answers"]] == [[0], [1]]


def test_own_inputs_replace_the_tensors_and_keep_the_switches(trace, model, tmp_path):
    save_file({"x": torch.zeros(5, 4)}, tmp_path / "in.safetensors")
    trace(inputs=tmp_path / "in.safetensors")
    assert model.seen == [((5, 4), True)]


def test_a_verification_drops_a_wrong_group_and_says_so(trace, monkeypatch):
    from mtcore.trace import FoldGroup, Slices

    rows = Slices("up.weight", (0,), (0, 1), (0, 1))

    def planted(self, model, inputs=None):
        return TraceReport("Model", folds=(FoldGroup("wrong", 2, (rows,), ()),))

    monkeypatch.setattr(Registry, "trace_model", planted)
    traced = trace(verify=True)
    assert traced.wrong
    assert traced.report.folds == ()
    assert traced.proof.dropped == ("fold wrong: outputs change",)


def test_a_forward_that_fails_is_reported_and_not_verified(trace, tmp_path):
    save_file({"x": torch.zeros(5, 3)}, tmp_path / "in.safetensors")
    traced = trace(inputs=tmp_path / "in.safetensors", verify=True)
    assert traced.wrong
    assert traced.proof is None
    assert traced.report.failures[-1].module == ""


def test_a_tied_parameter_is_explained_by_its_first_name(trace):
    (answer,) = trace(explain=["tied.weight:0"]).answers
    assert answer.parameter == "down.weight"
    assert answer.way == ("down.weight[axis 0: 0] pinned: output in the model",)


def test_one_index_can_be_asked_for(trace):
    (answer,) = trace(explain=["up.weight:0:3"]).answers
    assert (answer.index, answer.pinned, answer.way) == (3, 0, ())


def test_nothing_is_explained_that_was_not_asked_for(trace, phases):
    trace()
    assert phases == {"load": 1, "trace": 1}


def test_parameters_to_look_at_are_chosen_by_the_report(trace):
    pins = trace(look_at=lambda report, shapes: [report.folds[0].up[0].parameter]).pins
    assert {pin.parameter for pin in pins} == {"up.weight"}


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("up.wieght", "no parameter named 'up.wieght'; did you mean up.weight"),
        ("up.weight:2", "up.weight has no axis 2: it is 6x4"),
        ("up.weight:0:99", "axis 0 of up.weight has no index 99: it is 6x4"),
        ("up.weight:x", "not of the form PARAMETER"),
        ("", "not of the form PARAMETER"),
    ],
)
def test_a_question_without_an_answer_is_refused_before_the_forward(trace, model, question, message):
    with pytest.raises(TraceError, match=message):
        trace(explain=[question])
    assert model.seen == []


def test_a_parameter_that_the_forward_did_not_use_has_no_scale(trace, model):
    model.spare = nn.Linear(2, 2)
    with pytest.raises(TraceError, match=r"gave 'spare.weight' no scale: was it used\?"):
        trace(explain=["spare.weight"])


def test_a_model_that_nobody_knows_is_refused(trace):
    with pytest.raises(ModelError, match="nowhere"):
        trace("nowhere")


def bad_file(folder, kind):
    path = folder / "in.safetensors"
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        save_file({}, path)
    elif kind == "name":
        save_file({"x": torch.zeros(1, 4), "pixels": torch.zeros(1)}, path)
    elif kind == "missing argument":
        save_file({"flip": torch.zeros(1)}, path)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("absent", "no such file"),
        ("text", "not a safetensors file"),
        ("empty", "no tensors in it"),
        ("name", "unexpected keyword argument 'pixels'"),
        ("missing argument", "missing a required argument: 'x'"),
    ],
)
def test_a_bad_inputs_file_is_refused_before_the_forward(trace, model, tmp_path, kind, message):
    with pytest.raises(ModelError, match=message):
        trace(inputs=bad_file(tmp_path, kind))
    assert model.seen == []

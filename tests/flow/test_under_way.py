"""What a loader warns of is told by every run, and stands in the plan."""

from dataclasses import replace

import pytest
import torch

from mtcore.flow import load_checkpoint, plan_checkpoint
from mtcore.flow.report import LoggingReporter
from mtcore.flow.under_way import RunUnderWay
from mtcore.hookspecs import hookimpl
from mtcore.plugins import Registry
from mtcore.testing.toy_blocks import SOURCE, ToyBlocksPlugin, ToyShape, write_toy_blocks


class Warns(ToyBlocksPlugin):
    """Its loader has something to say."""

    @hookimpl
    def mtcore_load_model(self, source):
        loaded = super().mtcore_load_model(source)
        return loaded and replace(loaded, warnings=("1 tensor fits nowhere: foo",), positions=16)


class Heard(LoggingReporter):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def source(tmp_path):
    return f"{SOURCE}{write_toy_blocks(tmp_path, ToyShape(layers=1))}"


@pytest.fixture
def registry():
    return Registry.load([Warns()], discover=False)


def test_a_warning_of_the_loader_is_told_once(source, registry):
    heard = Heard()
    load_checkpoint(source, registry=registry, reporter=heard)
    assert heard.notes == ["warning: 1 tensor fits nowhere: foo"]


def test_a_warning_of_the_loader_is_the_first_finding_of_the_plan(source, registry):
    plan = plan_checkpoint(source, {"rules": [{"weight": "int8"}]}, registry=registry)
    first = plan.findings[0]
    assert (first.level, first.where, first.message) == ("warning", "load", "1 tensor fits nowhere: foo")


@pytest.mark.parametrize(("length", "told"), [(16, 0), (17, 1)])
def test_samples_longer_than_the_model_was_made_for_are_told_before_the_run(source, registry, length, told):
    heard = Heard()
    run = RunUnderWay.of(registry, heard, source)
    loaded = run.load()
    run.batches([{"input_ids": torch.zeros(1, length, dtype=torch.int64)}], loaded, None)
    assert len(heard.notes[1:]) == told
    assert all("samples have 17 tokens, but the model was made for 16" in note for note in heard.notes[1:])

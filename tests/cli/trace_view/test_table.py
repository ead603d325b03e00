"""A trace as people read it at a terminal."""

import io
import re

import pytest
from rich.console import Console
from torch import nn

from mtcore.cli.trace_view.table import draw_answers, draw_trace


@pytest.fixture
def drawn():
    def draw(trace, view=draw_trace, **options):
        out = io.StringIO()
        view(Console(file=out, width=200), trace, **options)
        return out.getvalue()

    return draw


def test_identical_layers_share_a_table(net, traced, drawn):
    text = drawn(traced(net(3)))
    assert text.count("layers.[0-2]  \u00d73  Layer") == 1
    assert re.search(r"shared input +2 +gate, up\n", re.sub(" +\n", "\n", text))
    assert "norm.weight[0], norm.bias[0] → gate.weight[1], up.weight[1]" in text
    assert "searchable" in text
    assert "across layers" in text
    assert "not called spare" in text


def test_every_layer_has_a_table_when_asked_for(net, traced, drawn):
    assert "layers.1  Layer" in drawn(traced(net(3)), every_layer=True)


def test_a_model_without_groups_is_drawn(traced, drawn):
    assert "nothing belongs together here" in drawn(traced(nn.Linear(4, 4, bias=False)))


def test_the_way_to_a_pin_is_drawn_step_by_step(net, traced, drawn):
    text = drawn(traced(net(2), explain=["layers.0.gate.weight:0", "layers.1.up.weight:0"]), draw_answers)
    assert "layers.0.gate.weight[axis 0: 0] pinned: aten::sigmoid in layers.0" in text
    assert "layers.1.up.weight axis 0: all 16 scales are free" in text


def test_names_are_drawn_as_they_are(net, traced, drawn):
    assert "[bold]x.[0-1]" in drawn(traced(net(2, name="[bold]x")))

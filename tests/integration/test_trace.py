"""`mtopt trace` on the embedded model: identical layers in one table, every group proved, and the page of them."""

import json

import pytest

import mtopt_tinylm
from mtcore.cli.main import run
from mtcore.trace import TraceReport


@pytest.fixture(scope="module")
def model():
    return str(mtopt_tinylm.checkpoint_dir())


def test_all_groups_are_proved_and_shown_once_for_all_layers(model, tmp_path, capsys):
    assert run(["trace", model, "--verify", "--removals", "--html", str(tmp_path / "page.html")]) == 0
    assert "0 groups dropped" in capsys.readouterr().out
    assert run(["trace", model]) == 0
    text = capsys.readouterr().out
    assert text.count("LlamaDecoderLayer") == 1
    assert "model.layers.[0-5]  \u00d76  LlamaDecoderLayer" in text
    assert "self_attn.v_proj.weight[0] → self_attn.o_proj.weight[1]" in text
    assert "key-value groups of 2 heads" in text
    page = (tmp_path / "page.html").read_text()
    assert page.count('<section class="layer">') == 3  # the layers, what is outside, the residual stream


def test_the_report_as_json_is_lossless_and_says_why_a_scale_is_pinned(model, capsys):
    assert run(["trace", model, "--json", "--explain", "model.layers.3.mlp.gate_proj.weight:0:7"]) == 0
    data = json.loads(capsys.readouterr().out)
    report = TraceReport.from_dict(data)
    assert TraceReport.from_dict(report.to_dict()) == report
    assert len(report.folds) == 31
    assert data["answers"][0]["way"] == [
        "model.layers.3.mlp.gate_proj.weight[axis 0: 7] pinned: aten::silu in model.layers.3.mlp.act_fn"
    ]

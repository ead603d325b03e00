"""`mtopt eval`, on an evaluation that is replaced by a given result."""

import json
import math
from pathlib import Path

import pytest

from mtcore.flow import DataOptions, Evaluation


@pytest.fixture
def asked(monkeypatch, registry):
    """What the command asks the flow for, and the text that it had at that moment."""
    seen = {}

    def evaluate_checkpoint(source, **options):
        seen.update(source=source, **options)
        if Path(options["text"]).is_file():
            seen["content"] = Path(options["text"]).read_text(encoding="utf-8")
        return Evaluation(nll=math.log(8.5), tokens=4096, seconds=1.5)

    monkeypatch.setattr("mtcore.flow.evaluate_checkpoint", evaluate_checkpoint)
    return seen


def test_the_perplexity_is_shown_with_what_it_was_measured_on(asked, mtopt):
    shown = mtopt("eval", "m", "--text", "mine.txt", "--samples", "8")
    assert shown.code == 0
    for fact in ("8.5000", "4,096", "mine.txt"):
        assert fact in shown.out
    assert asked["data"] == DataOptions(samples=8)


def test_json_tells_model_text_and_perplexity(asked, mtopt):
    data = json.loads(mtopt("eval", "m", "--text", "mine.txt", "--json").out)
    assert (data["model"], data["text"], data["tokens"]) == ("m", "mine.txt", 4096)
    assert data["perplexity"] == pytest.approx(8.5)


def test_without_a_text_pythons_own_documentation_is_scored_and_named(asked, mtopt):
    shown = mtopt("eval", "m")
    assert "documentation topics of Python" in shown.out
    assert len(asked["content"]) > 100_000
    assert not Path(asked["text"]).exists()  # it was written for the run only

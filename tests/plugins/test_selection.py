"""MTCORE_PLUGINS, and what callers say instead of it."""

import pytest

from mtcore.errors import PluginError
from mtcore.plugins.selection import Selection


def test_nothing_said_means_all(monkeypatch):
    monkeypatch.delenv("MTCORE_PLUGINS", raising=False)
    assert "hf" in Selection.choose(None, ())


def test_only_nothing_means_none():
    assert "hf" not in Selection.parse("only:")


def test_code_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("MTCORE_PLUGINS", "no:hf")
    assert "hf" not in Selection.choose(None, ())
    assert "hf" in Selection.choose(["hf"], ())
    assert "hf" in Selection.choose(None, ["onnx"])


@pytest.mark.parametrize("text", ["hf", "all:hf", "only", "without:hf"])
def test_anything_else_is_refused_with_the_grammar(text):
    with pytest.raises(PluginError, match=f"MTCORE_PLUGINS={text}: write only:NAME,NAME or no:NAME,NAME"):
        Selection.parse(text)

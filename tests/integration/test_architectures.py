"""A fast part of bench/architectures.py: one small model of each kind, with all the proofs."""

import sys
import warnings
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).parents[2] / "bench"
NAMES = {
    "causal_lm": ("llama", "olmoe", "bloom"),
    "encoder": ("bert",),
    "seq2seq": ("t5",),
    "vision": ("resnet", "segformer"),
    "detection": ("yolos",),
    "speech": ("wav2vec2",),
}


@pytest.fixture(scope="module")
def bench():
    """The benchmark's modules, importable as beside its script."""
    sys.path.insert(0, str(BENCH))
    try:
        import examine
        import shrink
        import table

        yield {"examine": examine.examine, "architectures": shrink.architectures, "table": table.table}
    finally:
        sys.path.remove(str(BENCH))


@pytest.fixture(scope="module")
def rows(bench):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = [a for a in bench["architectures"]() if a.name in NAMES[a.kind]]
            return {a.name: {"kind": a.kind, "name": a.name, **bench["examine"](a)} for a in wanted}
    finally:
        torch.set_num_threads(threads)


ALL = [name for names in NAMES.values() for name in names]


@pytest.mark.parametrize("name", ALL)
def test_every_graph_replays_and_the_forward_is_unchanged(rows, name):
    assert rows[name]["root_replay"] == ""
    assert rows[name]["inexact"] == {}
    assert rows[name]["unchanged"]


@pytest.mark.parametrize("name", ALL)
def test_every_fold_group_is_exact_and_powered(rows, name):
    folds = rows[name]["folds"]
    assert folds["double"]
    assert folds["groups"] > 0
    assert folds["exact"] == folds["groups"] == folds["singly"]
    assert folds["powered"] >= 0.9 * folds["groups"]  # a group of one channel has no wrong map to compare with


@pytest.mark.parametrize("name", ALL)
def test_nothing_was_unknown_and_nothing_is_removed_wrongly(rows, name):
    assert rows[name]["unknown"] == {}
    assert rows[name]["rule_errors"] == {}
    removal = rows[name]["removal"]
    assert set(removal["channels"]) <= {"ok", "ok+attributes", "single", "dynamic", "constant"}
    # A forward may refuse blocks: t5 makes biases for all heads in its first layer.
    assert "mismatch" not in removal["blocks"]


@pytest.mark.parametrize("name", ALL)
def test_no_role_is_missed(rows, name):
    assert rows[name]["missed"] == {}


def test_the_table_has_a_column_for_each_kind(bench, rows):
    lines = bench["table"](
        [*rows.values(), {"kind": "speech", "name": "none", "error": "no such model"}]
    ).splitlines()
    assert lines[0].count("|") == 8
    assert "| built and run | 3 | 1 | 1 | 2 | 1 | 1 |" in lines
    assert "- speech/none: no such model" in lines

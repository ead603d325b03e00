"""`mtopt export`, on a run that is replaced by a given result."""

import json
from pathlib import Path

import pytest

from mtcore.export import Exported, Target
from mtcore.flow import TargetReport

WRITTEN = TargetReport(
    Target("vllm", "compressed-tensors", "vLLM runs every format of it", ("folds nothing",)),
    Exported(Path("out/vllm"), {"config.json": 1_000, "model.safetensors": 999_000}),
)
REFUSED = TargetReport(Target("gptq", "gptq", "", (), ("layers.0.q_proj: no fp8",)))


@pytest.fixture
def asked(monkeypatch, registry):
    """What the command asks the flow for; `reports` is what it is told."""
    seen = {"reports": (WRITTEN,)}

    def export_artifact(source, targets, out, **options):
        seen.update(source=source, targets=targets, out=out, **options)
        return seen["reports"]

    monkeypatch.setattr("mtcore.flow.export_artifact", export_artifact)
    return seen


def test_every_option_reaches_the_run(asked, registry, mtopt):
    assert mtopt("export", "a", "--to", "vllm, hf", "-o", "out", "--max-shard-size", "5GB", "--force").code == 0
    assert (asked["source"], asked["targets"], asked["out"]) == ("a", ["vllm", "hf"], Path("out"))
    assert (asked["max_shard_bytes"], asked["overwrite"], asked["registry"]) == (5_000_000_000, True, registry)


def test_each_target_says_its_dialect_why_where_and_what_changes(asked, mtopt):
    shown = mtopt("export", "a", "--to", "vllm", "-o", "out")
    for fact in (
        "vllm: compressed-tensors, vLLM runs every format of it",
        "written: out/vllm, 1.0 MB in 2 files",
        "note: folds nothing",
    ):
        assert fact in shown.out


def test_a_refused_target_is_told_and_the_exit_code_is_one(asked, mtopt):
    asked["reports"] = (WRITTEN, REFUSED)
    shown = mtopt("export", "a", "--to", "vllm,gptq", "-o", "out")
    assert shown.code == 1
    assert "refused: layers.0.q_proj: no fp8" in shown.out


def test_the_answer_for_programs_holds_the_same(asked, mtopt):
    asked["reports"] = (WRITTEN, REFUSED)
    shown = mtopt("export", "a", "--to", "vllm,gptq", "-o", "out", "--json")
    written, refused = json.loads(shown.out)["targets"]
    assert (written["dialect"], written["size_bytes"], written["notes"]) == (
        "compressed-tensors",
        1_000_000,
        ["folds nothing"],
    )
    assert (refused["files"], refused["problems"]) == (None, ["layers.0.q_proj: no fp8"])


def test_no_target_at_all_is_a_usage_error(asked, mtopt):
    assert mtopt("export", "a", "--to", ",", "-o", "out").code == 2

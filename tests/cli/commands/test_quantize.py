"""`mtopt quantize`, on a run that is replaced by a given result."""

import json
from pathlib import Path

import pytest

from mtcore.calibration import CalibrationSummary, LayerSummary
from mtcore.export import Exported
from mtcore.flow import DataOptions, LayerwiseOptions, RunSummary


@pytest.fixture
def asked(monkeypatch, registry, plan):
    """What the command asks the flow for."""
    seen = {}

    def quantize_checkpoint(source, recipe, out, **options):
        seen.update(source=source, recipe=recipe, out=out, **options)
        exported = Exported(out, {"config.json": 1_000, "model.safetensors": 999_000})
        told = CalibrationSummary((LayerSummary("layers.0.q_proj", 21.5, 0.25, 0.2, 0.0),))
        return RunSummary(plan, exported, source_bytes=3_000_000, seconds=2.5, calibration=told)

    monkeypatch.setattr("mtcore.flow.quantize_checkpoint", quantize_checkpoint)
    return seen


def test_the_result_tells_sizes_ratio_and_coverage(asked, mtopt):
    shown = mtopt("quantize", "m", "--recipe", "nvfp4", "--calib", "text", "-o", "out")
    assert shown.code == 0
    for fact in (
        "3.0 MB of parameters",
        "1.0 MB in 2 files",
        "ratio  3.00",
        "2.5 s",
        "50.0% of the matrix weights",
    ):
        assert fact in shown.out


def test_every_option_reaches_the_run(asked, registry, mtopt):
    line = "quantize m --recipe fp8 --calib t -o out --dialect d --samples 3 --length 7 --batch-size 2 --force"
    assert mtopt(*line.split()).code == 0
    assert (asked["source"], asked["recipe"].name, asked["out"]) == ("m", "fp8", Path("out"))
    assert (asked["calib"], asked["dialect"], asked["overwrite"]) == ("t", "d", True)
    assert asked["data"] == DataOptions(samples=3, length=7, batch_size=2)
    assert asked["registry"] is registry


def test_the_directory_of_statistics_reaches_the_run(asked, mtopt):
    assert mtopt(*["quantize", "m", "--recipe", "fp8", "-o", "out", "--statistics", "kept"]).code == 0
    assert asked["statistics"] == Path("kept")


def test_the_file_of_a_recipe_reaches_the_run_as_an_input_to_keep(asked, mtopt, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("rules: [{weight: fp8}]")
    mtopt("quantize", "m", "--recipe", recipe, "-o", "out")
    assert asked["inputs"] == (recipe,)
    mtopt("quantize", "m", "--recipe", "fp8", "-o", "out")
    assert asked["inputs"] == ()


def test_what_the_line_leaves_out_keeps_its_default(asked, mtopt):
    mtopt("quantize", "m", "--recipe", "fp8", "-o", "out")
    assert (asked["calib"], asked["dialect"], asked["overwrite"]) == (None, None, False)
    assert asked["data"] == DataOptions()


def test_options_of_a_run_block_by_block_reach_it(asked, mtopt):
    line = "quantize m --recipe fp8 -o out"
    for more, options in {
        "--max-memory 2GiB --propagate --restart": LayerwiseOptions(2**31, propagate=True, restart=True),
        "--layerwise --device cuda:1": LayerwiseOptions(device="cuda:1"),
        "--layerwise": LayerwiseOptions(),
        "": None,
    }.items():
        mtopt(*f"{line} {more}".split())
        assert asked["layerwise"] == options


def test_options_of_a_run_block_by_block_without_one_are_refused(asked, mtopt):
    line = "quantize m --recipe fp8 -o out"
    shown = mtopt(*f"{line} --restart".split())
    assert shown.code == 2
    assert "--propagate, --restart and --device need --layerwise" in shown.err
    assert "is no size" in mtopt(*f"{line} --max-memory many".split()).err


def test_options_of_the_data_reach_the_run(asked, mtopt):
    line = "quantize m --recipe fp8 -o out --calib-format jsonl --text-field body --chat --seed 3"
    mtopt(*line.split())
    assert asked["data"] == DataOptions(format="jsonl", field="body", chat=True, seed=3)


def test_json_is_the_summary(asked, mtopt):
    data = json.loads(mtopt("quantize", "m", "--recipe", "fp8", "-o", "out", "--json").out)
    assert (data["directory"], data["size_bytes"], data["source_bytes"]) == ("out", 1_000_000, 3_000_000)


def test_an_override_that_cannot_be_read_is_one_line(asked, mtopt):
    shown = mtopt("quantize", "m", "--recipe", "fp8", "-o", "out", "--set", "nonsense")
    assert (shown.code, shown.err.count("\n")) == (1, 1)
    assert "override 'nonsense'" in shown.err


def test_an_interruption_after_the_run_says_that_the_result_is_complete(asked, monkeypatch, mtopt):
    def interrupted(summary):
        raise KeyboardInterrupt

    monkeypatch.setattr(RunSummary, "to_json", interrupted)
    shown = mtopt("quantize", "m", "--recipe", "fp8", "-o", "out")
    assert (shown.code, shown.err.strip()) == (130, "interrupted: out is complete")


def test_the_worst_layers_are_shown_with_advice(asked, mtopt):
    shown = mtopt("quantize", "m", "--recipe", "fp8", "-o", "out")
    for fact in ("the worst 1 of 1 layers", "layers.0.q_proj", "21.5", "25.00%", "its weight costs most"):
        assert fact in shown.out
    data = json.loads(mtopt("quantize", "m", "--recipe", "fp8", "-o", "out", "--json").out)
    assert data["calibration"]["layers"][0]["output_error"] == 0.25

"""The hooks: found through the entry point, and passing on what the plugin's own functions give."""

from __future__ import annotations

from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mtcore.errors import ModelError
from mtcore.flow.data_options import DataOptions
from mtcore.flow.run import evaluate_checkpoint, quantize_checkpoint
from mtcore.plugins import Registry
from mtopt_hf import hooks


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load([hooks], discover=False, strict=True)


def test_entry_point_names_the_hooks() -> None:
    (found,) = (entry for entry in entry_points(group="mtcore") if entry.name == "hf")
    assert found.load() is hooks


def test_registry_loads_a_directory_and_makes_batches(
    registry: Registry, llama_checkpoint: Path, text_file: Path
) -> None:
    loaded = registry.load_model(str(llama_checkpoint))
    batches = registry.calibration_batches(str(text_file), loaded, DataOptions(samples=2, length=8, batch_size=1))
    assert [tuple(batch["input_ids"].shape) for batch in batches] == [(1, 8), (1, 8)]


def test_broken_directory_is_an_error_of_the_model(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        registry.load_model(str(tmp_path))


def test_main_job_runs_and_its_result_cannot_be_quantized_again(
    registry: Registry, llama_checkpoint: Path, text_file: Path, tmp_path: Path
) -> None:
    data = DataOptions(samples=2, length=16, batch_size=2)
    run = partial(quantize_checkpoint, recipe="fp8", calib=str(text_file), data=data, registry=registry)
    summary = run(str(llama_checkpoint), out=tmp_path / "out")
    assert summary.exported.size_bytes < summary.source_bytes
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    measured = evaluate_checkpoint(str(tmp_path / "out"), text=str(text_file), data=data, registry=registry)
    assert measured.perplexity > 1
    with pytest.raises(ModelError, match=r"quantized already \(compressed-tensors\)"):
        run(str(tmp_path / "out"), out=tmp_path / "again")
    assert not (tmp_path / "again").exists()

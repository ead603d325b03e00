"""The hooks: found through the entry point, and passing on what the plugin's own functions give."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mtcore.errors import ModelError
from mtcore.flow.data_options import DataOptions
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


def test_registry_writes_the_dialect(registry: Registry) -> None:
    assert registry.exporters["compressed-tensors"].summary

"""A model from its configuration alone: planned and traced as the real one, and refused for everything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import DeepseekV3Config

from mtcore.errors import ModelError
from mtcore.flow import evaluate_checkpoint, plan_checkpoint, quantize_checkpoint, trace_checkpoint
from mtopt_hf.load import load_model


def test_plan_and_trace_are_those_of_the_real_model(llama_checkpoint: Path) -> None:
    real, light = str(llama_checkpoint), f"config:{llama_checkpoint}"
    assert plan_checkpoint(light, "nvfp4") == plan_checkpoint(real, "nvfp4")
    assert trace_checkpoint(light).report == trace_checkpoint(real).report


def test_the_file_itself_can_be_named(llama_checkpoint: Path) -> None:
    loaded = load_model(f"config:{llama_checkpoint / 'config.json'}")
    assert loaded is not None
    assert not loaded.has_weights
    assert {p.device.type for p in loaded.model.parameters()} == {"meta"}


def test_a_model_that_no_machine_here_could_hold_is_planned(tmp_path: Path) -> None:
    config = DeepseekV3Config(num_hidden_layers=4, hidden_size=2048)
    config.save_pretrained(tmp_path)
    plan = plan_checkpoint(f"config:{tmp_path}", {"rules": [{"weight": "fp8"}], "algorithm": "max"})
    assert sum(len(m.slots) > 0 for m in plan) > 10


def test_quantizing_and_evaluating_need_weights(llama_checkpoint: Path, tmp_path: Path) -> None:
    source = f"config:{llama_checkpoint}"
    with pytest.raises(ModelError, match="has no weights"):
        quantize_checkpoint(source, "fp8_row", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ModelError, match="has no weights"):
        evaluate_checkpoint(source, text="x")
    with pytest.raises(ModelError, match="nothing to verify"):
        trace_checkpoint(source, verify=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such directory or config"),
        ("{", "config.json"),
        ("{}", "model_type"),
        (json.dumps({"model_type": "nonsense"}), "transformers cannot use"),
        (json.dumps({"model_type": "llama", "hidden_size": -4}), "transformers cannot"),
    ],
)
def test_a_bad_configuration_is_one_clear_error(tmp_path: Path, content: str | None, message: str) -> None:
    folder = tmp_path / "model"
    if content is not None:
        folder.mkdir()
        (folder / "config.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        load_model(f"config:{folder}")

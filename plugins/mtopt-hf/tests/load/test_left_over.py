"""What a checkpoint holds beyond its model is told by name, and whole blocks of it by their number."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaModel

from mtopt_hf.load import load_model

WEIGHTS = "model.safetensors"


def add(folder: Path, *names: str) -> Path:
    """The same checkpoint with more tensors."""
    tensors = load_file(folder / WEIGHTS) | {name: torch.ones(3) for name in names}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def warnings_of(folder: Path) -> tuple[str, ...]:
    loaded = load_model(str(folder))
    assert loaded is not None
    return loaded.warnings


def test_a_tensor_that_fits_no_part_is_a_warning_with_its_name(llama_copy: Path) -> None:
    (warning,) = warnings_of(add(llama_copy, "foo"))
    assert warning == (
        f"{llama_copy}: 1 tensor fits no part of the model and will not be in what is made of it: foo"
    )


def test_of_many_tensors_three_are_named_and_all_are_counted(llama_copy: Path) -> None:
    (warning,) = warnings_of(add(llama_copy, "d.weight", "a.weight", "c.weight", "b.weight"))
    assert "4 tensors fit no part" in warning
    assert warning.endswith("a.weight, b.weight, c.weight, …")


def test_a_whole_checkpoint_has_no_warnings(llama_checkpoint: Path) -> None:
    assert warnings_of(llama_checkpoint) == ()


def test_buffers_that_the_model_works_out_itself_are_not_told(llama_copy: Path) -> None:
    names = (
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.rotary_emb.inv_freq",
        "model.h.0.attn.masked_bias",
    )
    assert warnings_of(add(llama_copy, *names)) == ()


def test_masks_in_the_files_of_an_old_gpt2_are_not_told(tmp_path: Path) -> None:
    GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=16, n_layer=1, n_head=2)).save_pretrained(
        tmp_path
    )
    assert warnings_of(add(tmp_path, "h.0.attn.bias", "transformer.h.0.attn.masked_bias")) == ()


def test_fewer_layers_than_the_files_hold_are_told_with_where_they_are_counted(edit_config) -> None:
    (warning,) = warnings_of(edit_config(num_hidden_layers=1))
    assert warning.endswith("(config.json says num_hidden_layers: 1, and the files hold model.layers.1)")


def test_blocks_without_the_prefix_of_the_model_are_found_too(edit_config) -> None:
    names = "layers.2.mlp.up_proj.weight", "layers.10.mlp.up_proj.weight"
    (warning,) = warnings_of(add(edit_config(num_hidden_layers=2), *names))
    assert warning.endswith("and the files hold layers.2, layers.10)")


def test_blocks_of_a_base_model_are_found_too(llama_checkpoint: Path, tmp_path: Path) -> None:
    LlamaModel.from_pretrained(llama_checkpoint).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    (warning,) = warnings_of(tmp_path)
    assert warning.endswith("and the files hold layers.1)")


def test_blocks_of_another_part_are_told_by_name(llama_copy: Path) -> None:
    (warning,) = warnings_of(add(llama_copy, "talker.model.layers.7.mlp.up_proj.weight"))
    assert warning.endswith("talker.model.layers.7.mlp.up_proj.weight")

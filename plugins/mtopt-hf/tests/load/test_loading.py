"""Loading: what comes with a model, and one clear error for every bad source."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM
from transformers.utils import logging as transformers_log

from mtcore.errors import ModelError
from mtopt_hf.load import load_model

WEIGHTS = "model.safetensors"


def test_directory_gives_the_same_model_with_its_companions(
    llama_checkpoint: Path, tiny_llama: LlamaForCausalLM
) -> None:
    loaded = load_model(str(llama_checkpoint))
    assert loaded is not None
    assert not loaded.model.training
    assert loaded.loader == "hf"
    stored = json.loads((llama_checkpoint / "config.json").read_text())
    assert loaded.files.config == stored
    assert {"tokenizer.json", "generation_config.json"} <= set(loaded.files.files)
    for name, tensor in tiny_llama.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    ids = loaded.example_inputs["input_ids"]
    assert ids.shape == (1, 8)
    assert len(set(ids[0].tolist())) == 8
    assert torch.equal(loaded.model(**loaded.example_inputs).logits, tiny_llama(ids).logits)


def test_tokenizer_encodes_without_begin_and_decodes_back(llama_checkpoint: Path) -> None:
    loaded = load_model(str(llama_checkpoint))
    assert loaded is not None
    assert loaded.tokenizer is not None
    ids = loaded.tokenizer.encode("Größe 1")
    assert len(ids) == len("Größe 1".encode())
    assert loaded.tokenizer.bos_id == 256
    assert loaded.tokenizer.decode([256, *ids, 257]) == "Größe 1"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dtype_stays_as_stored(dtype: torch.dtype, tiny_llama: LlamaForCausalLM, tmp_path: Path) -> None:
    copy = LlamaForCausalLM(tiny_llama.config).to(dtype)
    copy.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    assert loaded is not None
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {dtype}
    assert loaded.tokenizer is None


def test_shards_are_joined(tiny_llama: LlamaForCausalLM, tmp_path: Path) -> None:
    tiny_llama.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    loaded = load_model(str(tmp_path))
    assert loaded is not None
    assert torch.equal(loaded.model.lm_head.weight, tiny_llama.lm_head.weight)


@pytest.mark.parametrize("source", ["no-such-name", "./no/such/dir", "recipe.yaml"])
def test_source_that_is_not_ours_is_left_to_others(source: str) -> None:
    assert load_model(source) is None


def test_text_file_is_not_ours(text_file: Path) -> None:
    assert load_model(str(text_file)) is None


def error_of(source: Path | str) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(str(source))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_directory_without_config_is_no_model(tmp_path: Path) -> None:
    assert "not a model: it has no config.json" in error_of(tmp_path)


def test_an_artifact_is_named_with_the_command_that_makes_a_model_of_it(tmp_path: Path) -> None:
    (tmp_path / "artifact.json").write_text("{}")
    assert f"{tmp_path}: this is an artifact" in error_of(tmp_path)
    assert f"`mtopt export {tmp_path} --to NAME -o OUT` writes one" in error_of(tmp_path)


def test_directory_around_a_model_names_the_inner_one(llama_copy: Path) -> None:
    assert f"did you mean {llama_copy}?" in error_of(llama_copy.parent)


def test_directory_with_a_gguf_file_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert str(tmp_path / "m.gguf") in error_of(tmp_path)


@pytest.mark.parametrize("content", ["{not json", "[1]", ""])
def test_unreadable_config_is_named(llama_copy: Path, content: str) -> None:
    (llama_copy / "config.json").write_text(content)
    assert "config.json" in error_of(llama_copy)


def test_unknown_architecture_is_named(edit_config) -> None:
    assert "model_type 'zebra9'" in error_of(edit_config(model_type="zebra9"))


def test_config_without_a_model_type_is_no_model(edit_config) -> None:
    assert "names no model_type" in error_of(edit_config(model_type=None))


def test_code_in_a_checkpoint_is_never_run(edit_config, tmp_path: Path) -> None:
    folder = edit_config(
        model_type="zebra9",
        auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"},
        architectures=["M"],
    )
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert "not run" in error_of(folder)
    assert not (tmp_path / "ran").exists()


def test_foreign_quantization_is_refused_by_name(edit_config) -> None:
    assert "quantized already (gptq)" in error_of(edit_config(quantization_config={"quant_method": "gptq"}))


@pytest.mark.parametrize("kept", [0, 7, 100, 5000, -1])
def test_truncated_weights_are_found_before_loading(llama_copy: Path, kept: int) -> None:
    content = (llama_copy / WEIGHTS).read_bytes()
    (llama_copy / WEIGHTS).write_bytes(content[:kept])
    assert "cut short" in error_of(llama_copy)


def test_trailing_bytes_are_found(llama_copy: Path) -> None:
    with (llama_copy / WEIGHTS).open("ab") as file:
        file.write(b"x")
    assert "longer than its header says" in error_of(llama_copy)


@pytest.mark.parametrize("start", [b"\xff" * 16, b"\x05\0\0\0\0\0\0\0hello", b"\x02\0\0\0\0\0\0\0[]"])
def test_garbage_for_weights_is_named(llama_copy: Path, start: bytes) -> None:
    (llama_copy / WEIGHTS).write_bytes(start)
    assert WEIGHTS in error_of(llama_copy)


def test_missing_shard_is_named(tiny_llama: LlamaForCausalLM, tmp_path: Path) -> None:
    tiny_llama.save_pretrained(tmp_path, max_shard_size="100KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.unlink()
    assert f"{shard.name}: the index names this file, but it is missing" in error_of(tmp_path)


def test_index_that_points_elsewhere_is_refused(llama_copy: Path) -> None:
    (llama_copy / WEIGHTS).rename(llama_copy.parent / "w.safetensors")
    index = {"weight_map": {"lm_head.weight": "../w.safetensors"}}
    (llama_copy / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    assert "shards lie beside their index" in error_of(llama_copy)


def test_no_weights_at_all(llama_copy: Path) -> None:
    (llama_copy / WEIGHTS).unlink()
    assert "neither model.safetensors nor" in error_of(llama_copy)


def test_pickle_is_refused(llama_copy: Path) -> None:
    (llama_copy / WEIGHTS).rename(llama_copy / "pytorch_model.bin")
    assert "pickle" in error_of(llama_copy)


def test_weight_that_is_not_in_the_files_is_no_random_number(llama_copy: Path) -> None:
    tensors = load_file(llama_copy / WEIGHTS)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, llama_copy / WEIGHTS, metadata={"format": "pt"})
    assert "model.layers.1.mlp.up_proj.weight" in error_of(llama_copy)


@pytest.mark.parametrize("size", [{"num_hidden_layers": 2**31}, {"vocab_size": 2**40}, {"num_hidden_layers": 5000}])
def test_a_size_that_no_model_has_is_refused_before_anything_is_built(edit_config, size) -> None:
    key, value = next(iter(size.items()))
    assert f"{key} is {value}" in error_of(edit_config(**size))


def test_config_of_another_size_is_an_error(edit_config) -> None:
    assert "another shape than config.json says" in error_of(edit_config(intermediate_size=128))


@pytest.mark.parametrize(("key", "value"), [("pad_token_id", 10**6), ("dtype", 7), ("hidden_act", 3)])
def test_a_value_that_a_layer_refuses_is_one_clear_error(edit_config, key: str, value: object) -> None:
    with pytest.raises(ModelError, match="transformers cannot"):
        load_model(str(edit_config(**{key: value})))


def test_damaged_tokenizer_is_named(llama_copy: Path) -> None:
    (llama_copy / "tokenizer.json").write_text("{}")
    assert "tokenizer" in error_of(llama_copy)


def test_hub_name_without_a_network_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "cannot be reached" in error_of("nobody/no-such-model")


def test_nothing_is_printed_and_the_log_level_is_put_back(
    llama_copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = transformers_log.get_verbosity()
    load_model(str(llama_copy))
    (llama_copy / WEIGHTS).unlink()
    error_of(llama_copy)
    assert transformers_log.get_verbosity() == before
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_package_with_a_file_in_pieces_is_joined_by_its_own_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pieces_of_model.py").write_text("def assemble():\n    raise ValueError('sha256 differs')\n")
    (tmp_path / "no_model_at_all.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "sha256 differs" in error_of("package:pieces-of-model")
    assert "assemble()" in error_of("package:no-model-at-all")
    assert "pip install never-heard-of-it" in error_of("package:never-heard-of-it")
    sys.modules.pop("pieces_of_model")
    sys.modules.pop("no_model_at_all")

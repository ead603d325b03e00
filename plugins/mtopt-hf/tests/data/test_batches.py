"""Chunks start a sequence, in order or drawn by a seed, the same every time; too few data are told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, OPTConfig, OPTForCausalLM

from mtcore.errors import CalibrationError
from mtcore.flow.data_options import DataOptions
from mtcore.flow.loaded import LoadedModel
from mtopt_hf.data import calibration_batches
from mtopt_hf.load import load_model

SMALL = DataOptions(samples=2, length=16, batch_size=1)


@pytest.fixture(scope="module")
def loaded(llama_checkpoint: Path) -> LoadedModel:
    model = load_model(str(llama_checkpoint))
    assert model is not None
    return model


def test_chunks_begin_with_bos_and_continue_the_text(loaded: LoadedModel, text_file: Path) -> None:
    batches = calibration_batches(str(text_file), loaded, DataOptions(samples=5, length=33, batch_size=2))
    assert [tuple(batch["input_ids"].shape) for batch in batches] == [(2, 33), (2, 33), (1, 33)]
    rows = torch.cat([batch["input_ids"] for batch in batches])
    assert set(rows[:, 0].tolist()) == {256}
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.decode(rows[:, 1:].flatten().tolist()) == text_file.read_text()[: 5 * 32]
    assert all(batch["use_cache"] is False for batch in batches)
    assert loaded.model(**batches[0]).logits.shape == (2, 33, 258)


def test_same_file_gives_the_same_batches(loaded: LoadedModel, text_file: Path) -> None:
    first, second = (calibration_batches(str(text_file), loaded, DataOptions(3, 16, 2)) for _ in range(2))
    assert all(torch.equal(a["input_ids"], b["input_ids"]) for a, b in zip(first, second, strict=True))


def test_model_without_a_begin_token_gets_text_only(loaded: LoadedModel, text_file: Path) -> None:
    class NoBegin:
        bos_id = None

        def encode(self, text: str) -> list[int]:
            return list(text.encode())

        def decode(self, ids: list[int]) -> str:
            return bytes(ids).decode()

    batches = calibration_batches(str(text_file), replace(loaded, tokenizer=NoBegin()), DataOptions(2, 10, 2))
    assert bytes(batches[0]["input_ids"].flatten().tolist()).decode() == text_file.read_text()[:20]


def error_of(source: Path | str, loaded: LoadedModel, options: DataOptions = SMALL) -> str:
    with pytest.raises(CalibrationError) as caught:
        calibration_batches(str(source), loaded, options)
    return str(caught.value)


def test_text_too_short_says_how_much_there_is_and_what_would_do(loaded: LoadedModel, text_file: Path) -> None:
    message = error_of(text_file, loaded, DataOptions(samples=1000, length=17, batch_size=1))
    assert "gives 10800 tokens" in message
    assert "need 16000" in message
    assert "at most 675 samples" in message


def test_empty_text_is_too_short(loaded: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "e.txt").touch()
    message = error_of(tmp_path / "e.txt", loaded)
    assert "gives 0 tokens" in message
    assert "at most" not in message


@pytest.mark.parametrize(("content", "why"), [(b"\xff\xfe\x00a" * 9, "not UTF-8"), (b"text\0more", "zero bytes")])
def test_binary_file_is_refused(loaded: LoadedModel, tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "b.bin").write_bytes(content)
    assert why in error_of(tmp_path / "b.bin", loaded)


def test_missing_file_and_directory_are_named(loaded: LoadedModel, tmp_path: Path) -> None:
    assert "no such file" in error_of(tmp_path / "nothing.txt", loaded)
    (tmp_path / "empty").mkdir()
    assert "no file of text or records in this directory" in error_of(tmp_path / "empty", loaded)


def test_model_without_a_tokenizer_is_named(loaded: LoadedModel, text_file: Path) -> None:
    assert "no tokenizer" in error_of(text_file, replace(loaded, tokenizer=None))


@pytest.mark.parametrize("options", [DataOptions(0, 16, 1), DataOptions(1, 1, 1), DataOptions(1, 16, 0)])
def test_senseless_options_are_refused(loaded: LoadedModel, text_file: Path, options: DataOptions) -> None:
    assert "must be at least" in error_of(text_file, loaded, options)


def test_a_seed_draws_other_chunks_of_the_data_and_repeats_itself(loaded: LoadedModel, text_file: Path) -> None:
    def rows(seed: int | None) -> torch.Tensor:
        options = DataOptions(samples=6, length=17, batch_size=6, seed=seed)
        return calibration_batches(str(text_file), loaded, options)[0]["input_ids"]

    every = calibration_batches(str(text_file), loaded, DataOptions(samples=675, length=17, batch_size=675))
    known = {tuple(row) for row in every[0]["input_ids"].tolist()}
    assert torch.equal(rows(1), rows(1))
    assert not torch.equal(rows(1), rows(2))
    assert not torch.equal(rows(1), rows(None))
    assert all(tuple(row) in known for row in rows(1).tolist())


def test_an_id_outside_of_the_vocabulary_is_named(loaded: LoadedModel, tmp_path: Path) -> None:
    file = tmp_path / "ids.jsonl"
    file.write_text(json.dumps([1] * 31 + [258]))
    assert "token id 258 is outside of the model's vocabulary of 258" in error_of(
        file, loaded, replace(SMALL, format="ids")
    )


def learned(model: object, loaded: LoadedModel) -> LoadedModel:
    """With the tokenizer of the tiny Llama."""
    return replace(loaded, model=model)


def test_samples_longer_than_a_table_of_positions_are_refused_with_the_length_that_fits(
    loaded: LoadedModel, text_file: Path
) -> None:
    opt = OPTForCausalLM(
        OPTConfig(
            vocab_size=258,
            hidden_size=16,
            word_embed_proj_dim=16,
            ffn_dim=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=32,
        )
    )
    message = error_of(text_file, learned(opt, loaded), replace(SMALL, length=33))
    assert message == (
        f"{text_file}: 33 tokens a sample, but the model has 32 positions (config.json: max_position_embeddings); "
        "give --length 32"
    )
    (batch,) = calibration_batches(str(text_file), learned(opt, loaded), DataOptions(1, 32, 1))
    assert opt(**batch).logits.shape == (1, 32, 258)


def test_the_key_of_the_config_is_the_one_that_the_file_has(loaded: LoadedModel, text_file: Path) -> None:
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=258, n_positions=32, n_embd=16, n_layer=1, n_head=2))
    assert "config.json: n_positions" in error_of(text_file, learned(gpt2, loaded), replace(SMALL, length=33))


def test_rotary_positions_may_be_exceeded(loaded: LoadedModel, text_file: Path) -> None:
    (batch,) = calibration_batches(str(text_file), loaded, DataOptions(1, 300, 1))
    assert loaded.model(**batch).logits.shape == (1, 300, 258)

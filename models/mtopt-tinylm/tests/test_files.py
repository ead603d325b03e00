"""What the package carries: complete, small, and free of training text."""

from __future__ import annotations

import json

import pytest

import mtopt_tinylm


def test_checkpoint_directory_holds_exactly_what_transformers_reads() -> None:
    names = {path.name for path in mtopt_tinylm.checkpoint_dir().iterdir()}
    assert names == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_weights_tokenizer_and_texts_stay_under_sixteen_megabytes() -> None:
    root = mtopt_tinylm.checkpoint_dir().parent
    carried = [p for p in root.rglob("*") if p.is_file() and p.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in carried) <= 16_000_000


@pytest.mark.parametrize("text", [mtopt_tinylm.calibration_text(), mtopt_tinylm.evaluation_text()])
def test_held_out_texts_are_about_a_hundred_kilobytes_of_ascii_prose(text: str) -> None:
    assert 95_000 < len(text.encode()) < 120_000
    assert len(text.encode("ascii", "ignore")) > 0.99 * len(text.encode())


def test_held_out_texts_share_no_paragraph() -> None:
    first, second = (
        {p for p in text.split("\n\n") if len(p) >= 40}
        for text in (mtopt_tinylm.calibration_text(), mtopt_tinylm.evaluation_text())
    )
    assert first
    assert first.isdisjoint(second)


def test_text_functions_read_the_files_they_name() -> None:
    assert mtopt_tinylm.calibration_file().read_text(encoding="utf-8") == mtopt_tinylm.calibration_text()
    assert mtopt_tinylm.evaluation_file().read_text(encoding="utf-8") == mtopt_tinylm.evaluation_text()


def test_config_is_a_llama_with_grouped_query_attention_and_its_own_head() -> None:
    config = json.loads((mtopt_tinylm.checkpoint_dir() / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["dtype"] == "bfloat16"
    assert config["num_attention_heads"] == 2 * config["num_key_value_heads"]
    assert config["tie_word_embeddings"] is False


def test_metrics_say_that_the_model_beats_token_frequencies_tenfold() -> None:
    measured = mtopt_tinylm.metrics()
    assert measured["perplexity"] < measured["unigram_perplexity"] / 10
    assert measured["bytes"] == len(mtopt_tinylm.evaluation_text().encode())

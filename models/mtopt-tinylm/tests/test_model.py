"""The model in transformers: loads, has the promised shapes, has learned its language."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

import mtopt_tinylm


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(mtopt_tinylm.checkpoint_dir(), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(mtopt_tinylm.checkpoint_dir())


def test_default_dtype_is_bfloat16() -> None:
    loaded = AutoModelForCausalLM.from_pretrained(mtopt_tinylm.checkpoint_dir())
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}


def test_parameter_count_is_the_recorded_one(model: PreTrainedModel) -> None:
    assert sum(p.numel() for p in model.parameters()) == mtopt_tinylm.metrics()["parameters"]


def test_in_features_of_every_linear_fit_blocks_of_128(model: PreTrainedModel) -> None:
    linears = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert len(linears) == 6 * 7 + 1
    assert [n for n, m in linears.items() if m.in_features % 128] == []


def test_head_does_not_share_its_weight_with_the_embedding(model: PreTrainedModel) -> None:
    assert model.lm_head.weight.data_ptr() != model.model.embed_tokens.weight.data_ptr()


def test_tokenizer_puts_the_start_token_in_front_and_loses_nothing(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    text = "def f(x):\n    return x  # naïve, 12345 ☃\n"
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id == 0
    assert tokenizer.bos_token_id not in ids[1:]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_tokenizer_and_model_have_the_same_vocabulary(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> None:
    assert len(tokenizer) == model.config.vocab_size == 4096


def test_held_out_perplexity_of_the_first_chunks_is_far_under_the_unigram_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    chunks = 4
    ids = tokenizer(mtopt_tinylm.evaluation_text()[:20_000], add_special_tokens=False)["input_ids"]
    rows = torch.tensor(ids[: chunks * 511]).view(chunks, 511)
    rows = functional.pad(rows, (1, 0), value=tokenizer.bos_token_id)  # [chunks, 512]
    with torch.inference_mode():
        logits = model(rows[:, :-1]).logits
    loss = functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).item()
    assert math.exp(loss) < mtopt_tinylm.metrics()["unigram_perplexity"] / 20


def test_continuations_are_words_in_ascii(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    prompt = tokenizer("The server", return_tensors="pt")
    written = model.generate(**prompt, max_new_tokens=24, do_sample=False)[0]
    text = tokenizer.decode(written, skip_special_tokens=True)
    assert text.startswith("The server")
    assert text.isascii()
    assert len(text.split()) > 8

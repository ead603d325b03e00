"""Which models have a table of positions, and how many rows of it can be used."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    BartConfig,
    BartForCausalLM,
    BertConfig,
    BertForMaskedLM,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    ProphetNetConfig,
    ProphetNetForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from mtopt_hf.load.positions import key_of_positions, learned_positions, stated_positions


def empty(model: type[PreTrainedModel], config: object) -> PreTrainedModel:
    with torch.device("meta"):
        return model(config)


@pytest.mark.parametrize(
    ("model", "config", "key"),
    [
        (GPT2LMHeadModel, GPT2Config(n_positions=128), "n_positions"),
        (OPTForCausalLM, OPTConfig(max_position_embeddings=128), "max_position_embeddings"),
        (BertForMaskedLM, BertConfig(max_position_embeddings=128), "max_position_embeddings"),
        (BartForCausalLM, BartConfig(max_position_embeddings=128), "max_position_embeddings"),
    ],
)
def test_a_table_of_positions_is_found_under_every_name(model, config, key: str) -> None:
    made = empty(model, config)
    assert learned_positions(made) == stated_positions(made) == 128
    assert key_of_positions(made) == key


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (BloomForCausalLM, BloomConfig()),
        (GPTJForCausalLM, GPTJConfig()),
        (T5ForConditionalGeneration, T5Config()),
        (ProphetNetForCausalLM, ProphetNetConfig()),  # clamps a position to the last row
    ],
)
def test_computed_relative_and_clamped_positions_are_no_table(model, config) -> None:
    assert learned_positions(empty(model, config)) is None


def test_rotary_positions_are_stated_and_not_learned(tiny_llama: LlamaForCausalLM) -> None:
    assert learned_positions(tiny_llama) is None
    assert stated_positions(tiny_llama) == 256


def test_a_model_without_a_configuration_states_nothing() -> None:
    assert stated_positions(nn.Linear(2, 2)) is None
    assert learned_positions(nn.Linear(2, 2)) is None

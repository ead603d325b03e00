"""The class of a configuration."""

import pytest
from transformers import AutoModelForCausalLM, BertForMaskedLM, T5ForConditionalGeneration

from mtopt_hf.load.model_class import model_class


@pytest.mark.parametrize("expected", [BertForMaskedLM, T5ForConditionalGeneration])
def test_it_is_the_one_that_the_configuration_names(expected):
    assert model_class({"architectures": [expected.__name__]}) is expected


@pytest.mark.parametrize("names", [None, [], ["NobodysModel"], ["AutoConfig"], ["torch"]])
def test_without_a_model_class_of_transformers_it_is_that_of_causal_language_models(names):
    assert model_class({"architectures": names}) is AutoModelForCausalLM

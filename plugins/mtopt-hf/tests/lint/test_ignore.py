"""The same list of modules, as each client reads it."""

import pytest

from mtopt_hf.lint.config import Declared
from mtopt_hf.lint.ignore import any_match, ignored

UP, GATE = "model.layers.0.mlp.up_proj", "model.layers.0.mlp.gate_proj"


def says(method, *entries):
    return Declared(method, method, ignore=entries)


@pytest.mark.parametrize(
    ("method", "entry", "client", "expected"),
    [
        ("compressed-tensors", UP, "vllm", True),
        ("compressed-tensors", "up_proj", "vllm", False),
        ("compressed-tensors", "model.layers.0.mlp", "vllm", False),
        ("compressed-tensors", "re:.*up_proj", "vllm", True),
        ("compressed-tensors", "re:up_proj", "vllm", False),  # patterns begin where the name begins
        ("compressed-tensors", "*up_proj", "vllm", False),
        ("modelopt", UP, "vllm", True),
        ("modelopt", "up_proj", "vllm", True),  # any part of a name
        ("modelopt", "up_proj", "trtllm", False),
        ("modelopt", "*up_proj", "trtllm", True),
        ("modelopt", "model.layers.0*", "trtllm", True),
        ("modelopt", "model.layers.0.mlp.gate_up_proj", "trtllm", True),  # the joined layer
        ("fp8", "model.layers.0.mlp", "transformers", True),
        ("awq", "mlp", "vllm", True),
        ("gptq", r"re:^model\.layers\.0\.mlp", "vllm", True),
    ],
)
def test_what_an_entry_means(method, entry, client, expected):
    assert ignored(says(method, entry), UP, client) is expected


def test_part_of_a_name_is_more_than_meant_in_vllm_alone():
    found = says("modelopt", "model.layers.0.mlp.gate")
    assert [ignored(found, GATE, client) for client in ("vllm", "trtllm", "sglang")] == [True, False, False]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (UP, True),
        ("re:.*up_proj", True),
        ("re:nothing", False),
        ("lm_head", False),
        ("transformer.layers.0.mlp.up_proj", True),
        (f"model.{UP}", True),  # a name in memory, one level deeper
        ("decoder.embed_tokens", True),  # a tied one is in no file
    ],
)
def test_an_entry_that_matches_nothing_is_known(entry, expected):
    assert any_match(says("compressed-tensors", entry), entry, {UP: None, GATE: None}) is expected

"""The linter's table of clients agrees with what the exporters say of the same formats."""

import pytest

from mtopt_hf.lint.config import Declared, Scheme
from mtopt_hf.lint.support import UNKNOWN, support
from mtopt_hf.modelopt.spelling import CLIENTS_OF_EXTRAS, SPELLINGS

ALGOS = {spelling.algo.upper(): spelling.clients for spelling in SPELLINGS} | CLIENTS_OF_EXTRAS


@pytest.mark.parametrize("client", ["vllm", "trtllm"])
@pytest.mark.parametrize("algo", ALGOS)
def test_linter_and_exporter_agree_on_who_runs_an_algorithm(algo, client):
    assert support(client, Declared("modelopt", "modelopt"), Scheme(algo)).runs == (client in ALGOS[algo])


def test_a_client_of_somebody_else_is_unknown():
    assert support("mine", Declared("modelopt", "modelopt"), Scheme("FP8")) is UNKNOWN


def test_transformers_runs_nothing_of_modelopt():
    assert support("transformers", Declared("modelopt", "modelopt"), Scheme("FP8")).runs is False


@pytest.mark.parametrize(("bits", "runs"), [(4, True), (8, True), (3, None), (5, None)])
def test_weights_of_odd_bits_are_known_to_be_untried(bits, runs):
    weights = {"num_bits": bits, "type": "int", "strategy": "group", "group_size": 128}
    says = Declared("compressed-tensors", "compressed-tensors")
    assert support("vllm", says, Scheme("pack", weights)).runs is runs


def test_a_scheme_can_be_narrower_for_one_client():
    says = Declared("compressed-tensors", "compressed-tensors")
    per_tensor = Scheme("fp8", {"num_bits": 8, "strategy": "tensor"}, {"strategy": "tensor"})
    assert support("trtllm", says, per_tensor).runs is False
    assert support("vllm", says, per_tensor).runs is True

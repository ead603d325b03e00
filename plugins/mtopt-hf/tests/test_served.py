"""The table of what clients run: what is spelled is in it, and arguments of a layer narrow it."""

import pytest

from mtopt_hf.modelopt.spelling import SPELLINGS
from mtopt_hf.served import UNKNOWN, Stored, support

ALGOS = {algo.upper() for s in SPELLINGS for algo in (s.algo, s.scaled_algo, s.branched_algo) if algo is not None}
PER_TENSOR = {"num_bits": 8, "type": "float", "strategy": "tensor"}


TENSOR, TOKEN = {"type": "int", "strategy": "tensor"}, {"type": "int", "strategy": "token"}


def _integers(bits, strategy="group", **more):
    return {"num_bits": bits, "type": "int", "strategy": strategy, **more}


@pytest.mark.parametrize("client", ["vllm", "trtllm", "hf", "sglang"])
@pytest.mark.parametrize("algo", sorted(ALGOS))
def test_it_is_known_of_every_algorithm_that_is_written_whether_a_client_runs_it(algo, client):
    assert support(client, Stored("modelopt", algo)).runs is not None


def test_a_client_of_somebody_else_is_unknown():
    assert support("mine", Stored("modelopt", "FP8")) is UNKNOWN


@pytest.mark.parametrize("name", ["transformers", "hf"])
def test_transformers_runs_nothing_of_modelopt(name):
    assert support(name, Stored("modelopt", "FP8")).runs is False


@pytest.mark.parametrize(("bits", "runs"), [(4, True), (8, True), (3, None), (5, False)])
def test_of_weights_in_odd_bits_it_is_known_which_were_not_tried(bits, runs):
    assert support("vllm", Stored("compressed-tensors", "pack", _integers(bits))).runs is runs


@pytest.mark.parametrize(
    ("client", "stored", "runs"),
    [
        ("trtllm", Stored("compressed-tensors", "fp8", PER_TENSOR, {"strategy": "tensor"}), False),
        ("vllm", Stored("compressed-tensors", "fp8", PER_TENSOR, {"strategy": "tensor"}), True),
        ("trtllm", Stored("compressed-tensors", "nvfp4"), False),
        ("vllm", Stored("compressed-tensors", "int8", _integers(8, "channel")), False),
        (
            "vllm",
            Stored("compressed-tensors", "int8", _integers(8), TENSOR | {"dynamic": True}),
            False,
        ),
        (
            "vllm",
            Stored("compressed-tensors", "int8", _integers(8), TENSOR | {"dynamic": False}),
            True,
        ),
        (
            "sglang",
            Stored("compressed-tensors", "pack", _integers(4), {"type": "int", "strategy": "tensor"}),
            False,
        ),
        ("sglang", Stored("compressed-tensors", "pack", _integers(4), TOKEN), False),
        ("sglang", Stored("compressed-tensors", "pack", _integers(4), TOKEN, experts=True), True),
        ("sglang", Stored("compressed-tensors", "pack", _integers(3)), False),
        ("sglang", Stored("compressed-tensors", "mxfp4"), False),
        ("sglang", Stored("compressed-tensors", "mxfp4", experts=True), True),
        ("sglang", Stored("compressed-tensors", "fp8", {"strategy": "block"}), False),
        ("vllm", Stored("modelopt", "FP8_PER_CHANNEL_PER_TOKEN"), True),
        ("vllm", Stored("modelopt", "FP8_PER_CHANNEL_PER_TOKEN", experts=True), False),
        ("hf", Stored("compressed-tensors", "nvfp4"), True),
        ("hf", Stored("compressed-tensors", "nvfp4", experts=True), False),
        ("hf", Stored("compressed-tensors", "fp8", PER_TENSOR, experts=True), True),
        ("hf", Stored("compressed-tensors", "mxfp4", experts=True), True),
        ("hf", Stored("compressed-tensors", "pack", _integers(4, symmetric=False), experts=True), False),
        ("hf", Stored("compressed-tensors", "pack", _integers(4, symmetric=False)), True),
        ("trtllm", Stored("modelopt", "W4A8_NVFP4_FP8", {"group_size": 32}), True),
        ("trtllm", Stored("modelopt", "W4A8_NVFP4_FP8", {"group_size": 16}), False),
    ],
)
def test_the_arguments_of_a_layer_narrow_what_a_client_runs(client, stored, runs):
    assert support(client, stored).runs is runs

"""`mtopt quantize` on a mixture of experts: starved ones are named, and topped up as the line asks."""

import pytest
import torch
from safetensors.torch import save_file
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from mtcore.cli.main import run

SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "moe_intermediate_size": 32, "head_dim": 16,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "num_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A checkpoint whose routers are sure of themselves, and 2,000 token ids."""
    folder = tmp_path_factory.mktemp("experts")
    torch.manual_seed(0)
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES)).eval()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.gate.weight.mul_(30)
    model.save_pretrained(folder / "model")
    ids = torch.randint(64, (2000,), generator=torch.Generator().manual_seed(1))
    save_file({"input_ids": ids}, folder / "ids.safetensors")
    return folder


@pytest.fixture
def quantize(files, tmp_path, capsys):
    def call(*extra):
        line = ["quantize", files / "model", "--recipe", "fp8", "--calib", files / "ids.safetensors"]
        sizes = ["--samples", 2, "--length", 24, "--batch-size", 1, "--dialect", "artifact", "-o", tmp_path / "out"]
        code = run([str(part) for part in (*line, *sizes, *extra)])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return call


def setting(key, value):
    return "--set", f"experts.{key}={value}"


def test_starved_experts_are_named_with_their_tokens(quantize):
    code, text = quantize(*setting("min_tokens", 40))
    assert code == 0
    assert "starved expert: model.layers.0.mlp.experts[" in text


@pytest.mark.parametrize(
    ("how", "told"), [("all_experts", "it was given all tokens of the data"), ("more_samples", "more batches")]
)
def test_starved_experts_are_topped_up(quantize, how, told):
    code, text = quantize(*setting("min_tokens", 20), *setting("when_starved", how))
    assert code == 0
    lines = [line for line in text.splitlines() if line.startswith("starved expert: model.layers.")]
    assert lines
    assert all(told in line for line in lines)


def test_a_run_block_by_block_tells_them_too(quantize):
    code, text = quantize(*setting("min_tokens", 20), *setting("when_starved", "all_experts"), "--layerwise")
    assert code == 0
    assert "mlp.experts[" in text
    assert "it was given all tokens of the data" in text


def test_what_cannot_be_had_is_refused_before_the_run(quantize, tmp_path):
    code, text = quantize(*setting("when_starved", "more_samples"), "--layerwise")
    assert code == 1
    assert "experts.when_starved is more_samples" in text
    assert "load:" not in text
    assert not (tmp_path / "out").exists()

"""Block by block, a Hugging Face checkpoint becomes the same files; its weights stay in theirs meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from mtcore.files import in_file
from mtcore.flow import DataOptions, LayerwiseOptions, quantize_checkpoint
from mtcore.plan import make_plan
from mtcore.plugins import Registry
from mtcore.recipe import load_config
from mtcore.trace import analyze
from mtopt_hf.load import load_model
from mtopt_hf.reload import open_as_client

SIZES: dict[str, Any] = {
    "vocab_size": 258,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
}

PAIR: dict[str, Any] = {
    "vocab_size": 258,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "max_position_embeddings": 64,
}

FP8 = {"num_bits": (4, 3)}
RECIPE = {
    "quant_cfg": {
        "*": {"enable": False},
        "*self_attn*weight_quantizer": FP8,
        "*self_attn*input_quantizer": FP8,
    },
    "algorithm": "max",
    "max_unquantized": 1.0,
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """bf16 in several shards: a tied head; experts that transformers merges when it loads them; two of an encoder
    and a decoder, of which T5 holds some weights in fp32, and hands a bias of its first block on to the others."""
    torch.manual_seed(3)
    models = {
        "tied": LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
        "experts": MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=2, num_experts_per_tok=2)),
        "pair": BartForConditionalGeneration(BartConfig(**PAIR)),
        "pair with a table of positions": T5ForConditionalGeneration(
            T5Config(
                vocab_size=258,
                d_model=64,
                d_kv=16,
                d_ff=96,
                num_layers=3,
                num_heads=4,
                decoder_start_token_id=0,
                feed_forward_proj="gated-gelu",
                tie_word_embeddings=False,
            )
        ),
    }
    folder = tmp_path_factory.mktemp("models")
    for name, model in models.items():
        model.bfloat16().save_pretrained(folder / name, max_shard_size="100KB")
    return {name: folder / name for name in models}


@pytest.fixture
def ids(tmp_path: Path) -> str:
    rows = torch.randint(258, (4, 32), generator=torch.Generator().manual_seed(0)).tolist()
    (tmp_path / "ids.jsonl").write_text("".join(f"{row}\n" for row in rows))
    return str(tmp_path / "ids.jsonl")


@pytest.mark.parametrize(
    ("name", "recipe"),
    [("tied", RECIPE), ("experts", RECIPE), ("pair", "fp8"), ("pair with a table of positions", "fp8")],
)
def test_the_files_are_those_of_a_run_on_the_whole_model(
    checkpoints: dict[str, Path], ids: str, tmp_path: Path, name: str, recipe: Any
) -> None:
    for folder, layerwise in {"whole": None, "blocks": LayerwiseOptions()}.items():
        quantize_checkpoint(
            str(checkpoints[name]),
            recipe,
            tmp_path / folder,
            calib=ids,
            data=DataOptions(samples=4, length=32, batch_size=2, format="ids"),
            layerwise=layerwise,
        )
    names = sorted(file.name for file in (tmp_path / "whole").iterdir())
    assert names == sorted(file.name for file in (tmp_path / "blocks").iterdir())
    assert all((tmp_path / "whole" / n).read_bytes() == (tmp_path / "blocks" / n).read_bytes() for n in names)
    assert open_as_client(tmp_path / "blocks") is not None


def test_weights_of_a_directory_stay_in_its_files(checkpoints: dict[str, Path]) -> None:
    loaded = load_model(str(checkpoints["tied"]))
    assert loaded is not None
    assert all(in_file(parameter) for parameter in loaded.model.parameters())


def test_layers_that_read_the_encoder_share_the_scale_of_that_input_alone() -> None:
    model = T5ForConditionalGeneration(
        T5Config(vocab_size=99, d_model=64, d_kv=16, d_ff=96, num_layers=2, num_heads=4)
    )
    ids = torch.arange(12).view(1, 12)
    trace = analyze(model, {"input_ids": ids, "decoder_input_ids": ids})
    registry = Registry.load(discover=False)
    config = load_config("fp8", formats=registry.formats, recipes=registry.recipes)
    plan = make_plan(model, config, registry.quant_modules, trace)
    cross = [[f"decoder.block.{i}.layer.1.EncDecAttention.{n}" for n in "kv"] for i in range(2)]
    groups = [(group.slot, list(group.modules)) for group in plan.groups if "EncDec" in group.name]
    assert groups == [("weight", cross[0]), ("weight", cross[1]), ("input", cross[0] + cross[1])]

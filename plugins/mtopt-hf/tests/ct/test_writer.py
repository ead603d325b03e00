"""Written directories: deterministic, complete, and run by transformers with the logits that we predict.

Tolerances. In fp32 the client works out `code · scale` and quantizes inputs by the same operations in the same
order as `numerics`, so logits are equal bit for bit. NVFP4 differs twice: weights are rounded to bf16 (so the
reference holds weights rounded to bf16), and block scales of inputs are `scale / divisor` instead of
`scale · scale_2`, at most 2 units in the last place apart (2^-23 each, relative).
"""

from __future__ import annotations

import copy
import errno
import json
import resource
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from mtcore.export import Artifact, SourceFiles
from mtcore.formats.catalog import FP8, FP8_ROW, NVFP4
from mtcore.numerics import dequantize
from mtopt_hf.ct import write_checkpoint
from mtopt_hf.load import load_model
from mtopt_hf.reload import check_reload, compare_logits, logits_of, open_as_client

EXACT = ["fp8", "fp8_dynamic", "fp8_weight_only", "int8", "int8_weight_only"]
NVFP4_CHOICES = ["nvfp4", "nvfp4_weight_only"]

FakeQuantized = Callable[..., nn.Module]
Maker = Callable[..., Artifact]


@pytest.fixture(scope="module")
def batches(ids: Tensor) -> list[dict[str, object]]:
    return [{"input_ids": ids[:2], "use_cache": False}, {"input_ids": ids[2:], "use_cache": False}]


def written(artifact: Artifact, folder: Path, **options: int) -> Path:
    folder.mkdir()
    write_checkpoint(artifact, folder, **options)
    return folder


@pytest.mark.parametrize("choice", EXACT)
def test_client_computes_what_we_predict_bit_for_bit(
    choice: str,
    artifacts: Mapping[str, Artifact],
    tiny_llama: LlamaForCausalLM,
    fake_quantized: FakeQuantized,
    batches: list[dict[str, object]],
    tmp_path: Path,
) -> None:
    artifact = artifacts[choice]
    folder = written(artifact, tmp_path / "out")
    client = open_as_client(folder)
    for name, module in artifact.modules.items():
        assert torch.equal(client.get_submodule(name).weight, dequantize(module.weights["weight"]))
    reference = logits_of(fake_quantized(tiny_llama, artifact), batches)
    agreement = compare_logits(reference, logits_of(client, batches))
    assert (agreement.tokens, agreement.same_argmax, agreement.max_difference) == (128, 1.0, 0.0)
    plain = compare_logits(logits_of(tiny_llama, batches), reference)
    assert plain.mean_difference > 0  # the reference is quantized


@pytest.mark.parametrize("choice", NVFP4_CHOICES)
def test_client_computes_nvfp4_within_the_rounding_of_its_scales(
    choice: str,
    artifacts: Mapping[str, Artifact],
    tiny_llama: LlamaForCausalLM,
    fake_quantized: FakeQuantized,
    batches: list[dict[str, object]],
    tmp_path: Path,
) -> None:
    artifact = artifacts[choice]
    folder = written(artifact, tmp_path / "out")
    reference = logits_of(fake_quantized(tiny_llama, artifact, torch.bfloat16), batches)
    agreement = check_reload(folder, batches, reference, torch.float32)
    assert agreement.same_argmax == 1.0
    assert agreement.max_difference < 2**-18 * agreement.mean_logit


def test_client_quantizes_tokens_to_int8_by_a_rule_of_its_own(
    artifacts: Mapping[str, Artifact], tiny_llama: LlamaForCausalLM, ids: Tensor, tmp_path: Path
) -> None:
    """transformers maps a token's amax to 127.5 and uses −128; vLLM and we map it to 127. Weights are equal.

    It takes the second axis for the tokens: an input [tokens, features] would have a scale for every element.
    """
    artifact = artifacts["int8_dynamic"]
    client = open_as_client(written(artifact, tmp_path / "out"))
    name = "model.layers.0.self_attn.q_proj"
    x = torch.randn(1, 3, 64, generator=torch.Generator().manual_seed(2))
    scale = x.abs().amax(dim=-1, keepdim=True) / 127.5
    rounded = (x / scale).round().clamp(-128, 127) * scale
    weight = dequantize(artifact.modules[name].weights["weight"])
    assert torch.equal(client.get_submodule(name)(x), F.linear(rounded, weight))


def test_nvfp4_checkpoint_runs_without_our_help_and_in_bf16(
    artifacts: Mapping[str, Artifact], ids: Tensor, tmp_path: Path
) -> None:
    """The library leaves NVFP4 weights in bf16, so the model must compute in bf16, whatever it was made from."""
    from transformers import AutoModelForCausalLM

    folder = written(artifacts["nvfp4"], tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert model.dtype == torch.bfloat16
    assert model(ids).logits.isfinite().all()


@pytest.mark.parametrize("choice", ["fp8", "nvfp4"])
def test_our_loader_opens_what_we_wrote(choice: str, artifacts: Mapping[str, Artifact], tmp_path: Path) -> None:
    loaded = load_model(str(written(artifacts[choice], tmp_path / "out")))
    assert loaded is not None
    assert loaded.quantized_as == "compressed-tensors"
    assert loaded.model.dtype == torch.float32
    assert loaded.model(**loaded.example_inputs).logits.isfinite().all()


def test_same_artifact_gives_the_same_bytes(artifacts: Mapping[str, Artifact], tmp_path: Path) -> None:
    first, second = (written(artifacts["nvfp4"], tmp_path / name) for name in ("a", "b"))
    names = sorted(file.name for file in first.iterdir())
    assert names == ["config.json", "model.safetensors"]
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_shards_hold_the_same_tensors_as_one_file(artifacts: Mapping[str, Artifact], tmp_path: Path) -> None:
    whole = load_file(written(artifacts["fp8"], tmp_path / "whole") / "model.safetensors")
    folder = written(artifacts["fp8"], tmp_path / "cut", max_shard_bytes=40_000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))
    assert shards == [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)]
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in whole.values())
    parts = {name: tensor for shard in shards for name, tensor in load_file(folder / shard).items()}
    assert parts.keys() == whole.keys() == index["weight_map"].keys()
    for name, tensor in whole.items():
        assert torch.equal(parts[name].view(torch.uint8), tensor.view(torch.uint8))
        with safe_open(folder / index["weight_map"][name], "pt") as shard:
            assert name in shard.keys()  # noqa: SIM118
    assert all((folder / shard).stat().st_size < 40_000 + 70_000 for shard in shards)
    assert load_model(str(folder)) is not None


def test_config_lists_one_group_and_the_exact_names_that_stay(
    artifacts: Mapping[str, Artifact], tmp_path: Path
) -> None:
    config = json.loads((written(artifacts["fp8"], tmp_path / "out") / "config.json").read_text())
    assert config["model_type"] == "llama"
    quantization = config["quantization_config"]
    assert quantization["quant_method"] == "compressed-tensors"
    assert quantization["quantization_status"] == "compressed"
    assert quantization["format"] == "float-quantized"
    assert quantization["ignore"] == ["lm_head", "model.embed_tokens"]
    (group,) = quantization["config_groups"].values()
    assert group["targets"] == ["Linear"]
    assert group["weights"]["strategy"] == group["input_activations"]["strategy"] == "tensor"


def test_several_schemes_name_their_modules_and_stay_runnable(
    make_artifact: Maker,
    tiny_llama: LlamaForCausalLM,
    fake_quantized: FakeQuantized,
    batches: list[dict[str, object]],
    tmp_path: Path,
) -> None:
    def choose(name: str) -> object:
        if "o_proj" in name or name == "lm_head":
            return None
        return (FP8, FP8, "static") if "attn" in name else (NVFP4, None, "static")

    artifact = make_artifact(choose)
    folder = written(artifact, tmp_path / "out")
    quantization = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert quantization["format"] == "mixed-precision"
    first, second = quantization["config_groups"].values()
    assert (first["format"], second["format"]) == ("float-quantized", "nvfp4-pack-quantized")
    assert len(first["targets"]) == len(second["targets"]) == 6
    assert "model.layers.0.self_attn.o_proj" in quantization["ignore"]
    client = open_as_client(folder, torch.float32)
    for name, module in artifact.modules.items():
        dtype = torch.float32 if "attn" in name else torch.bfloat16
        assert torch.equal(client.get_submodule(name).weight, dequantize(module.weights["weight"], dtype).float())


def test_tied_embedding_is_written_once_and_stays_tied(make_artifact: Maker, tmp_path: Path) -> None:
    torch.manual_seed(11)
    config = LlamaConfig(
        vocab_size=256, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    folder = written(
        make_artifact(lambda name: None if name == "lm_head" else (FP8_ROW, None, "static"), model),
        tmp_path / "out",
    )
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    assert "lm_head" in json.loads((folder / "config.json").read_text())["quantization_config"]["ignore"]
    client = open_as_client(folder)
    assert client.lm_head.weight.data_ptr() == client.model.embed_tokens.weight.data_ptr()
    assert torch.equal(client.lm_head.weight, model.lm_head.weight)


def test_bf16_model_keeps_its_dtype_and_fp32_scales_in_the_file(
    make_artifact: Maker, tiny_llama: LlamaForCausalLM, ids: Tensor, tmp_path: Path
) -> None:
    copy.deepcopy(tiny_llama).to(torch.bfloat16).save_pretrained(tmp_path / "bf16")
    loaded = load_model(str(tmp_path / "bf16"))
    assert loaded is not None
    artifact = make_artifact(lambda name: None if name == "lm_head" else (FP8, FP8, "static"), loaded.model)
    folder = written(artifact, tmp_path / "out")
    tensors = load_file(folder / "model.safetensors")
    assert {t.dtype for name, t in tensors.items() if name.endswith("_scale")} == {torch.float32}
    client = open_as_client(folder)
    assert client.dtype == torch.bfloat16
    exact = open_as_client(folder, torch.float32)
    for name, module in artifact.modules.items():
        ours = dequantize(module.weights["weight"], torch.float32)
        assert torch.equal(exact.get_submodule(name).weight, ours)
        # bf16: the scale is rounded to 8 bits of precision, then the product is: each at most 2^-8 relative
        apart = (client.get_submodule(name).weight.float() - ours).abs()
        assert (apart <= ours.abs() * 2 * 2**-8).all()


def test_companion_files_are_copied_and_texts_written(
    artifacts: Mapping[str, Artifact], llama_checkpoint: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    source = artifacts["fp8"].source
    files = {"tokenizer.json": llama_checkpoint / "tokenizer.json"}
    texts = {"chat/one.jinja": "{{ messages }}"}
    artifact = replace(artifacts["fp8"], source=SourceFiles(source.config, files, texts))
    folder = written(artifact, tmp_path / "out")
    assert (folder / "tokenizer.json").read_bytes() == (llama_checkpoint / "tokenizer.json").read_bytes()
    assert (folder / "chat" / "one.jinja").read_text() == "{{ messages }}"


def test_disk_that_takes_no_more_is_an_operating_system_error(
    artifacts: Mapping[str, Artifact], tmp_path: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"model\.safetensors") as caught:
            write_checkpoint(artifacts["fp8"], tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG

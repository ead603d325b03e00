"""Writes tiny checkpoints with other tools, to lint what they write: `lint_peers.py OUT [--record FOLDER]`.

Runs where nvidia-modelopt 0.47, llmcompressor 0.14 and compressed-tensors are installed; mtcore is not needed. Each
checkpoint is a random model of one layer. One that a tool cannot write here is named with its reason and left out.
`--record` keeps JSON files, headers and scales of each, without the weights, as the test's own files.
"""

from __future__ import annotations

import argparse
import atexit
import base64
import contextlib
import copy
import gzip
import json
import shutil
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "vocab_size": 128,
    "max_position_embeddings": 256,
    "dtype": "bfloat16",
}


SPREAD = 0.125
"""More than any weight of these models: one outer scale for all, as servers want it."""


def llama(**more: Any) -> Any:
    return _build("LlamaForCausalLM", "llama", **more)


def wide() -> Any:
    """For blocks of 128: Model-Optimizer writes the scale of a weight with a single block as a scalar."""
    return llama(hidden_size=256, num_attention_heads=4, num_key_value_heads=2)


def qwen_moe() -> Any:
    more = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128, "decoder_sparse_step": 1}
    return _build("Qwen3MoeForCausalLM", "qwen3_moe", **more)


def _build(name: str, model_type: str, **more: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(model_type, **(SIZES | {"tie_word_embeddings": False} | more))
    config.architectures = [name]
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()


def _run(model: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(4):
            model(input_ids=torch.randint(0, 128, (2, 32), generator=generator), use_cache=False)


def modelopt(make: Callable[[], Any], config: str, kv: str | None = None) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        import modelopt.torch.quantization as mtq
        from modelopt.torch.export import export_hf_checkpoint

        model = make()
        chosen = copy.deepcopy(getattr(mtq, config))
        if kv is not None:
            extra = getattr(mtq, kv)["quant_cfg"]
            both = chosen["quant_cfg"]
            chosen["quant_cfg"] = [*both, *extra] if isinstance(both, list) else both | extra
        weight_only = config.startswith(("W4A16", "NVFP4_W4A16", "MXFP", "FP8_2D"))
        model = mtq.quantize(model, chosen, None if weight_only else _run)
        export_hf_checkpoint(model, dtype=torch.bfloat16, export_dir=str(folder))

    return write


def llmcompressor(
    make: Callable[[], Any], scheme: str, *, data: bool = False, kv: bool = False
) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        from datasets import Dataset
        from llmcompressor import oneshot
        from llmcompressor.modifiers.quantization import QuantizationModifier

        cache = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False, "symmetric": True}
        more = {"kv_cache_scheme": cache} if kv else {}
        ignore = ["lm_head", "re:.*mlp.gate$"]
        recipe = QuantizationModifier(targets="Linear", scheme=scheme, ignore=ignore, **more)
        model = _reloaded(make())
        rows = [{"input_ids": torch.randint(0, 128, (32,)).tolist(), "attention_mask": [1] * 32} for _ in range(8)]
        given = (
            {"dataset": Dataset.from_list(rows), "num_calibration_samples": 8, "max_seq_length": 32} if data else {}
        )
        oneshot(model=model, recipe=recipe, processor=_tokenizer(), **given)
        model.save_pretrained(str(folder), save_compressed=True)

    return write


def _reloaded(model: Any) -> Any:
    """The tool wants a model that came from a directory, which must be there until the end."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({f"w{number}": number for number in range(128)}, unk_token="w0"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w1")


def compressed(scheme: str, make: Callable[[], Any] = llama) -> Callable[[Path], None]:
    """compressed-tensors alone: its presets, its scales of the weights, its compressor, transformers' saver."""

    def write(folder: Path) -> None:
        from compressed_tensors.compressors import ModelCompressor
        from compressed_tensors.quantization import (
            QuantizationConfig,
            QuantizationStatus,
            apply_quantization_config,
        )
        from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

        model = make()
        config = QuantizationConfig(config_groups={scheme: ["Linear"]}, ignore=["lm_head"])
        apply_quantization_config(model, config)
        for module in model.modules():
            arguments = getattr(getattr(module, "quantization_scheme", None), "weights", None)
            if arguments is None:
                continue
            weight, more = module.weight.data, {}
            if arguments.strategy == "tensor_group":
                more["global_scale"] = generate_gparam(torch.tensor(-SPREAD), torch.tensor(SPREAD))
                module.weight_global_scale.data.copy_(more["global_scale"].reshape(-1))
            low, high = _extremes(weight, arguments)
            scale, zero = calculate_qparams(low, high, arguments, **more)
            module.weight_scale.data.copy_(scale.reshape(module.weight_scale.shape))
            if hasattr(module, "weight_zero_point"):
                module.weight_zero_point.data.copy_(zero.reshape(module.weight_zero_point.shape))
            if hasattr(module, "input_scale"):
                module.input_scale.data.fill_(0.01)
            if hasattr(module, "input_global_scale"):
                module.input_global_scale.data.fill_(100.0)
            module.quantization_status = QuantizationStatus.FROZEN
        compressor = ModelCompressor.from_pretrained_model(model)
        compressor.compress_model(model)
        model.save_pretrained(str(folder))
        compressor.update_config(str(folder))

    return write


def _extremes(weight: torch.Tensor, arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    rows, cols = weight.shape
    if arguments.strategy == "tensor":
        return weight.min(), weight.max()
    if arguments.strategy == "block":
        high, wide = arguments.block_structure
        blocks = weight.reshape(rows // high, high, cols // wide, wide)
        return blocks.amin((1, 3)), blocks.amax((1, 3))
    size = cols if arguments.strategy == "channel" else arguments.group_size
    groups = weight.reshape(rows, -1, size)
    return groups.amin(-1), groups.amax(-1)


def plain(make: Callable[[], Any], **saving: Any) -> Callable[[Path], None]:
    """transformers' own saver, unquantized."""

    def write(folder: Path) -> None:
        make().save_pretrained(str(folder), **saving)

    return write


CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    "hf-llama": plain(llama),
    "hf-llama-sharded": plain(llama, max_shard_size="100KB"),
    "hf-llama-tied": plain(lambda: llama(tie_word_embeddings=True)),
    "hf-qwen3-moe": plain(qwen_moe),
    "mo-fp8": modelopt(llama, "FP8_DEFAULT_CFG"),
    "mo-fp8-kv": modelopt(llama, "FP8_DEFAULT_CFG", "FP8_KV_CFG"),
    "mo-fp8-moe": modelopt(qwen_moe, "FP8_DEFAULT_CFG"),
    "mo-fp8-channel": modelopt(llama, "FP8_PER_CHANNEL_PER_TOKEN_CFG"),
    "mo-fp8-blocks": modelopt(wide, "FP8_2D_BLOCKWISE_WEIGHT_ONLY_CFG"),
    "mo-int4-awq": modelopt(llama, "INT4_AWQ_CFG"),
    "mo-int8-sq": modelopt(llama, "INT8_SMOOTHQUANT_CFG"),
    "mo-nvfp4": modelopt(llama, "NVFP4_DEFAULT_CFG"),
    "mo-nvfp4-kv": modelopt(llama, "NVFP4_DEFAULT_CFG", "FP8_KV_CFG"),
    "mo-nvfp4-a16": modelopt(llama, "W4A16_NVFP4_CFG"),
    "mo-nvfp4-moe": modelopt(qwen_moe, "NVFP4_DEFAULT_CFG"),
    "mo-mxfp8": modelopt(llama, "MXFP8_DEFAULT_CFG"),
    "mo-mxfp4": modelopt(llama, "MXFP4_DEFAULT_CFG"),
    "mo-w4a8-awq": modelopt(llama, "W4A8_AWQ_BETA_CFG"),
    "lc-fp8-dynamic": llmcompressor(llama, "FP8_DYNAMIC"),
    "lc-fp8-blocks": llmcompressor(wide, "FP8_BLOCK"),
    "lc-fp8": llmcompressor(llama, "FP8", data=True),
    "lc-fp8-kv": llmcompressor(llama, "FP8", data=True, kv=True),
    "lc-int8": llmcompressor(llama, "W8A8", data=True),
    "lc-w4a16": llmcompressor(llama, "W4A16"),
    "lc-w4a16-asym": llmcompressor(llama, "W4A16_ASYM"),
    "lc-w8a16": llmcompressor(llama, "W8A16"),
    "lc-nvfp4": llmcompressor(llama, "NVFP4", data=True),
    "lc-nvfp4-a16": llmcompressor(llama, "NVFP4A16"),
    "lc-mxfp4": llmcompressor(llama, "MXFP4A16"),
    "lc-mxfp8": llmcompressor(llama, "MXFP8"),
    "lc-fp8-moe": llmcompressor(qwen_moe, "FP8_DYNAMIC"),
    "ct-fp8-dynamic": compressed("FP8_DYNAMIC"),
    "ct-fp8-blocks": compressed("FP8_BLOCK", wide),
    "ct-int8": compressed("W8A8"),
    "ct-w4a16": compressed("W4A16"),
    "ct-w4a16-asym": compressed("W4A16_ASYM"),
    "ct-w8a16": compressed("W8A16"),
    "ct-nvfp4": compressed("NVFP4"),
    "ct-nvfp4-a16": compressed("NVFP4A16"),
    "ct-mxfp4": compressed("MXFP4A16"),
    "ct-mxfp8": compressed("MXFP8"),
}


SCALES = ("_scale", "_scale_2", "_scale_inv", ".scales", "weight_shape")
COPIED = ("config.json", "hf_quant_config.json", "model.safetensors.index.json")


def record(checkpoint: Path, file: Path) -> None:
    """JSON files, headers, and the values of scales, as one compressed JSON file."""
    texts = {name: json.loads((checkpoint / name).read_text()) for name in COPIED if (checkpoint / name).exists()}
    tensors: dict[str, Any] = {}
    for shard in sorted(checkpoint.glob("*.safetensors")):
        raw = shard.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8 : 8 + length])
        header.pop("__metadata__", None)
        for name, entry in header.items():
            first, last = (8 + length + place for place in entry["data_offsets"])
            values = base64.b64encode(raw[first:last]).decode() if name.endswith(SCALES) else None
            tensors[name] = [entry["dtype"], entry["shape"], values]
    content = json.dumps({"json": texts, "tensors": tensors}, separators=(",", ":"), sort_keys=True)
    file.write_bytes(gzip.compress(content.encode(), mtime=0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--record", type=Path)
    parser.add_argument("--traceback", action="store_true")
    arguments = parser.parse_args()
    outcome: dict[str, str] = {}
    for name, write in CHECKPOINTS.items():
        if (arguments.only and name not in arguments.only) or (arguments.out / name / "config.json").exists():
            continue
        try:
            with contextlib.redirect_stdout(sys.stderr):
                write(arguments.out / name)
            outcome[name] = "written"
        except Exception as error:  # noqa: BLE001 - a peer's trouble is a result here
            if arguments.traceback:
                traceback.print_exc()
            outcome[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"
    if arguments.record is not None:
        arguments.record.mkdir(parents=True, exist_ok=True)
        for name in CHECKPOINTS:
            if (arguments.out / name / "config.json").exists():
                record(arguments.out / name, arguments.record / f"{name}.json.gz")
    print(json.dumps(outcome, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Lints an NVFP4 checkpoint of the size of the largest models: `lint_large.py FOLDER [--layers 61 --experts 256]`.

Headers, index, configuration and all scales with one value are written; codes are holes, which take no place on the
disk, and block scales are holes but for the pieces that are read. So the time is that of parsing and of the rules,
with a disk that answers at once.
"""

from __future__ import annotations

import argparse
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import mtopt_hf.hooks
from mtcore.files import peak_bytes
from mtcore.lint import lint, open_checkpoint
from mtcore.lint.values import PIECE, PIECES
from mtcore.plugins import Registry

HIDDEN, WIDE, EXPERT = 7168, 18432, 2048
SHARD_BYTES = 5_000_000_000


def matrices(layers: int, experts: int) -> Iterator[tuple[str, int, int]]:
    """Names, rows and columns of the quantized layers."""
    for layer in range(layers):
        at = f"model.layers.{layer}"
        for name, rows, cols in (("q_proj", HIDDEN, HIDDEN), ("k_proj", 1024, HIDDEN), ("v_proj", 1024, HIDDEN)):
            yield f"{at}.self_attn.{name}", rows, cols
        yield f"{at}.self_attn.o_proj", HIDDEN, HIDDEN
        for expert in range(experts):
            for name, rows, cols in (("gate_proj", EXPERT, HIDDEN), ("up_proj", EXPERT, HIDDEN)):
                yield f"{at}.mlp.experts.{expert}.{name}", rows, cols
            yield f"{at}.mlp.experts.{expert}.down_proj", HIDDEN, EXPERT


def entries(layers: int, experts: int) -> Iterator[tuple[str, str, list[int], int]]:
    """Name, dtype, shape and bytes of every tensor."""
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        yield name, "BF16", [129280, HIDDEN], 2 * 129280 * HIDDEN
    for name, rows, cols in matrices(layers, experts):
        yield f"{name}.weight", "U8", [rows, cols // 2], rows * cols // 2
        yield f"{name}.weight_scale", "F8_E4M3", [rows, cols // 16], rows * cols // 16
        yield f"{name}.weight_scale_2", "F32", [], 4
        yield f"{name}.input_scale", "F32", [], 4


def write(folder: Path, layers: int, experts: int) -> int:
    """Write the directory; returns the bytes that its files claim."""
    folder.mkdir(parents=True)
    where: dict[str, str] = {}
    shard: list[tuple[str, str, list[int], int]] = []
    size = total = number = 0
    for entry in [*entries(layers, experts), None]:
        if entry is None or (shard and size + entry[3] > SHARD_BYTES):
            number += 1
            title = f"model-{number:05d}.safetensors"
            where |= dict.fromkeys((name for name, *_ in shard), title)
            total += _write_shard(folder / title, shard)
            shard, size = [], 0
        if entry is not None:
            shard.append(entry)
            size += entry[3]
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    quantization = {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16, "ignore": ["lm_head"]}
    config = {
        "model_type": "llama",
        "num_hidden_layers": layers,
        "num_experts": experts,
        "quantization_config": quantization,
    }
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": HIDDEN, "vocab_size": 129280}))
    nested = {"quant_algo": "NVFP4", "group_size": 16, "kv_cache_quant_algo": None, "exclude_modules": ["lm_head"]}
    (folder / "hf_quant_config.json").write_text(
        json.dumps({"producer": {"name": "modelopt"}, "quantization": nested})
    )
    return total


def _write_shard(file: Path, shard: list[tuple[str, str, list[int], int]]) -> int:
    header, place = {}, 0
    for name, dtype, shape, size in shard:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for name, dtype, _, size in shard:
            start = 8 + len(text) + header[name]["data_offsets"][0]
            if dtype == "F32":
                stream.seek(start)
                stream.write(struct.pack("<f", 0.001))
            elif dtype == "F8_E4M3":
                for piece in range(PIECES):
                    stream.seek(start + round((size - PIECE) * piece / (PIECES - 1)) // 8 * 8)
                    stream.write(b"\x7e" * PIECE)  # 448
        stream.truncate(8 + len(text) + place)
    return 8 + len(text) + place


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=61)
    parser.add_argument("--experts", type=int, default=256)
    arguments = parser.parse_args()
    if not arguments.folder.exists():
        print(f"{write(arguments.folder, arguments.layers, arguments.experts) / 1e9:.0f} GB written as holes")
    registry = Registry.load([mtopt_hf.hooks], discover=False)
    before, cpu, start = peak_bytes() or 0, time.process_time(), time.perf_counter()
    checkpoint = open_checkpoint(arguments.folder)
    opened = time.process_time() - cpu
    report = lint(checkpoint, registry.clients.values(), registry.lint_rules.values())
    took, wall = time.process_time() - cpu, time.perf_counter() - start
    grown = ((peak_bytes() or 0) - before) / 2**20
    size = sum((arguments.folder / name).stat().st_size for name in checkpoint.files) / 1e9
    count = len(checkpoint.tensors)
    print(f"{size:.0f} GB, {len(checkpoint.files)} files, {count} tensors, {len(report.findings)} findings")
    print(
        f"headers {opened:.1f} CPU s, with all rules {took:.1f} CPU s and {wall:.1f} s; {grown:.0f} MiB of memory"
    )
    print({name: report.worst(name) or "clean" for name in report.readings})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

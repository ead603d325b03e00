"""Quantizes a random Llama that is several times larger than a memory ceiling, block by block, and tells the peak.

    python bench/layerwise_memory.py --layers 40 --hidden 2048 --max-memory 1500MiB

The weights are random, written shard by shard to a temporary directory. The run is `mtopt quantize` in a process of
its own; its peak is the VmHWM of that process, asked when it has ended its work.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from machine import machine
from report import report
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

PROGRAM = """
import json, sys, time
from pathlib import Path
from mtcore.files import parse_bytes, peak_bytes, resident_bytes
import torch, mtcore.flow, mtopt_hf.load
from mtcore.flow import DataOptions, LayerwiseOptions, quantize_checkpoint
held, start = resident_bytes(), time.perf_counter()
source, out, recipe, ceiling, device = sys.argv[1:]
data = DataOptions(4, 64, 2, format="ids")
layerwise = LayerwiseOptions(max_memory=parse_bytes(ceiling), device=device)
quantize_checkpoint(source, recipe, Path(out), calib=source + "/ids.jsonl", data=data, layerwise=layerwise)
on_device = torch.cuda.max_memory_allocated() if device.startswith("cuda") else 0
seconds = time.perf_counter() - start
print(json.dumps({"held before": held, "peak": peak_bytes(), "device": on_device, "seconds": seconds}))
"""


def write_model(folder: Path, config: LlamaConfig) -> int:
    """Random bf16 weights, one shard a layer; their bytes. Never holds more than one shard."""
    with torch.device("meta"):
        names = {name: p.shape for name, p in LlamaForCausalLM(config).named_parameters()}
    shards: dict[str, list[str]] = {}
    for name in names:
        layer = name.split(".")[2] if ".layers." in name else "rest"
        shards.setdefault(f"model-{layer}.safetensors", []).append(name)
    generator = torch.Generator().manual_seed(0)
    piece = torch.randn(1 << 20, generator=generator)
    total, weight_map = 0, {}
    for file, members in shards.items():
        tensors = {}
        for name in members:
            size = names[name]
            values = piece.roll(len(weight_map)).repeat(-(-size.numel() // len(piece)))[: size.numel()].view(size)
            values = 1 + values / 8 if values.dim() == 1 else values / size[-1] ** 0.5
            tensors[name] = values.bfloat16()
            weight_map[name] = file
        save_file(tensors, folder / file, {"format": "pt"})
        total += sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config.architectures, config.dtype = ["LlamaForCausalLM"], torch.bfloat16
    config.save_pretrained(folder)
    rows = torch.randint(config.vocab_size, (4, 64), generator=generator).tolist()
    (folder / "ids.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return total


def measure(layers: int, hidden: int, ceiling: str, recipe: str, device: str, folder: Path) -> dict[str, Any]:
    config = LlamaConfig(
        vocab_size=8000,
        hidden_size=hidden,
        intermediate_size=hidden * 11 // 4 // 64 * 64,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 128,
        num_key_value_heads=max(1, hidden // 512),
    )
    model = folder / "model"
    model.mkdir()
    size = write_model(model, config)
    command = [sys.executable, "-c", PROGRAM, str(model), str(folder / "out"), recipe, ceiling, device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    return {
        "machine": machine(),
        "recipe": recipe,
        "layers": layers,
        "model MiB": size >> 20,
        "ceiling": ceiling,
        "held before the run MiB": found["held before"] >> 20,
        "peak MiB": found["peak"] >> 20,
        "device": device,
        "peak on the device MiB": found["device"] >> 20,
        "model over peak": round(size / found["peak"], 2),
        "seconds": round(found["seconds"], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=40)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--max-memory", default="1500MiB")
    parser.add_argument("--recipe", default="fp8")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            options.layers, options.hidden, options.max_memory, options.recipe, options.device, Path(folder)
        )
    report(found, options.json)


if __name__ == "__main__":
    main()

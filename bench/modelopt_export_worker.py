"""Exports a checkpoint with nvidia-modelopt; started by compare_export.py in an environment of its own.

Usage: python modelopt_export_worker.py MODEL OUT CONFIG[,CONFIG…]
MODEL is a directory with the file ids.safetensors beside the weights: what to calibrate on. Every configuration is
used with the algorithm "max"; its checkpoint goes to OUT/CONFIG, and a message to OUT/CONFIG.error where it fails.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import modelopt.torch.quantization as mtq
import torch
from modelopt.torch.export import export_hf_checkpoint
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def export(model: Path, out: Path, config: str) -> None:
    """One configuration."""
    ids = load_file(model / "ids.safetensors")["ids"]
    chosen = copy.deepcopy(getattr(mtq, config))
    chosen["algorithm"] = "max"
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    mtq.quantize(loaded, chosen, lambda module: module(ids))
    export_hf_checkpoint(loaded, dtype=torch.bfloat16, export_dir=out / config)


def main() -> None:
    model, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for config in sys.argv[3].split(","):
        try:
            export(model, out, config)
        except Exception as error:  # noqa: BLE001 - whatever the peer raises is its result
            (out / f"{config}.error").write_text(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()

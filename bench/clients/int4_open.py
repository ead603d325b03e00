"""Opens an AWQ or GPTQ checkpoint with transformers and GPTQModel; needs no mtcore: `int4_open.py DIR IDS OUT`.

Writes logits, the class that transformers put in place of a linear layer, and, of an AWQ checkpoint, each weight as
AutoAWQ's own `dequantize_gemm` reads it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM


def main(folder: Path, ids: Path, out: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map="cpu").eval()
    with torch.inference_mode():
        logits = model(load_file(ids)["input_ids"]).logits.float()
    names = sorted({type(module).__name__ for module in model.modules() if hasattr(module, "qweight")})
    found = {"logits": logits.contiguous(), **autoawq_weights(folder)}
    save_file(found, out, {"layers": ", ".join(names)})


def autoawq_weights(folder: Path) -> dict[str, Tensor]:
    """Weights [out, in] of an AWQ checkpoint by layer; none of a GPTQ one."""
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    if config["quant_method"] != "awq":
        return {}
    from awq.utils.packing_utils import dequantize_gemm

    tensors = load_file(folder / "model.safetensors")
    layers = [name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight")]
    found = {}
    for layer in layers:
        parts = (tensors[f"{layer}.{part}"] for part in ("qweight", "qzeros", "scales"))
        found[layer] = dequantize_gemm(*parts, config["bits"], config["group_size"]).t().contiguous()
    return found


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

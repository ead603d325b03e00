"""Benchmark: how the cost of `analyze` grows with layers, width, vocabulary and experts.

    python bench/trace_scaling.py --json bench/results/trace_scaling.json

Weights are broadcasts of one number, so that they cost no memory; the forward is real. CPU seconds, one thread.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from mtcore.trace import analyze

BASE = {
    "hidden_size": 1024,
    "intermediate_size": 3584,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 16000,
    "num_hidden_layers": 2,
}
EIGHT_B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
CURVES: dict[str, list[dict[str, int]]] = {
    "layers": [{"num_hidden_layers": n} for n in (1, 2, 4, 8, 16)],
    "width": [{"hidden_size": 512 * n, "intermediate_size": 1792 * n} for n in (1, 2, 4, 8)],
    "vocabulary": [{"vocab_size": 8000 * n} for n in (1, 2, 4, 16)],
    "experts": [{"num_local_experts": n} for n in (4, 8, 16, 32)],
    "8B width": [{**EIGHT_B, "num_hidden_layers": n} for n in (1, 2, 4)],
    "8B": [{**EIGHT_B, "num_hidden_layers": 32}],
}


def build(changes: dict[str, int]) -> nn.Module:
    """A model on the meta device whose parameters then become broadcasts of a random number."""
    fields = {**BASE, **changes}
    moe = "num_local_experts" in fields
    with torch.device("meta"):
        config = MixtralConfig(**fields) if moe else LlamaConfig(**fields)
        model = (MixtralForCausalLM if moe else LlamaForCausalLM)(config)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            one = (0.02 * torch.randn(1)).expand(parameter.shape)
            setattr(module, name, nn.Parameter(one, requires_grad=False))
    rotary = model.model.rotary_emb
    model.model.rotary_emb = type(rotary)(config)
    return model.eval()


def measure(changes: dict[str, int]) -> dict[str, Any]:
    model = build(changes)
    inputs = {"input_ids": torch.randint(0, 1000, (1, 8)), "use_cache": False}
    with torch.no_grad():
        start = time.process_time()
        model(**inputs)
        forward = time.process_time() - start
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    report = analyze(model, inputs)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert not report.failures, report.failures
    return {
        **changes,
        "forward_s": round(forward, 2),
        "analyze_s": round(seconds, 2),
        "folds": len(report.folds),
        "added_mb": (peak - before) // 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curves", default=",".join(name for name in CURVES if name != "8B"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for curve in options.curves.split(","):
        for changes in CURVES[curve]:
            row = {"curve": curve, **measure(changes)}
            rows.append(row)
            print(json.dumps(row), flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

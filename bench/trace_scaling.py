"""Benchmark: what `analyze` costs by layers, width, vocabulary and experts, and for large models.

    python bench/trace_scaling.py --json bench/results/trace_scaling.json

Every row runs in its own process, on one thread. "real": weights are broadcasts of one number, so that they cost no
memory, and the forward computes; "meta": weights have shapes only. `alone` is the same without the recognition of
blocks that repeat others. `forward_s` and the like are CPU seconds; `added_mb` is the peak beyond the built model.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from machine import machine
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from mtcore.trace import empty_weights
from mtcore.trace.analyzer import Analysis

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
Row = tuple[str, str, dict[str, int]]
"""Model type, "real" or "meta", and the fields of its config that differ from `BASE` (or from the default)."""

CURVES: dict[str, list[Row]] = {
    "layers": [("llama", "real", {**BASE, "num_hidden_layers": n}) for n in (1, 2, 4, 8, 16)],
    "width": [
        ("llama", "real", {**BASE, "hidden_size": 512 * n, "intermediate_size": 1792 * n}) for n in (1, 2, 4)
    ],
    "vocabulary": [("llama", "real", {**BASE, "vocab_size": 8000 * n}) for n in (1, 2, 4, 16)],
    "experts": [("mixtral", "meta", {**BASE, "num_local_experts": n}) for n in (4, 8, 16, 32)],
    "8B, 32 layers": [("llama", "meta", {**EIGHT_B, "num_hidden_layers": n}) for n in (2, 8, 32)],
    "671B, 61 layers": [("deepseek_v3", "meta", {})],
}


def build(kind: str, weights: str, fields: dict[str, int]) -> tuple[nn.Module, PretrainedConfig]:
    """A model with weights that take no memory; without fields the default config, which is the published size."""
    config = AutoConfig.for_model(kind, **fields)
    with empty_weights():
        model = AutoModelForCausalLM.from_config(config)
    if weights == "real":
        generator = torch.Generator().manual_seed(0)
        for module in model.modules():
            for name, tensor in list(module.named_parameters(recurse=False)):
                one = (0.02 * torch.randn(1, generator=generator)).expand(tensor.shape)
                setattr(module, name, nn.Parameter(one, requires_grad=False))
        rotary = model.model.rotary_emb
        model.model.rotary_emb = type(rotary)(config)
    return model.eval(), config


def tokens_needed(config: PretrainedConfig) -> int:
    """So many that every expert gets one when they are dealt out in turn; at least 8."""
    experts = next((getattr(config, n) for n in ("n_routed_experts", "num_local_experts") if hasattr(config, n)), 0)
    return max(8, -(-experts // getattr(config, "num_experts_per_tok", 1)))


def measure(row: Row, pipe: Any) -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    kind, weights, fields = row
    model, config = build(kind, weights, fields)
    tokens = tokens_needed(config)
    inputs = {"input_ids": torch.randint(0, 1000, (1, tokens)), "use_cache": False}
    small, _ = build("llama", "real", {**BASE, "hidden_size": 64, "intermediate_size": 64, "vocab_size": 1000})
    Analysis(small, inputs)  # imports
    result = {"model": kind, "weights": weights, "tokens": tokens, **fields}
    result["parameters"] = sum(p.numel() for p in model.parameters())
    if weights == "real":
        with torch.no_grad():
            start = time.process_time()
            model(**inputs)
            result["forward_s"] = round(time.process_time() - start, 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, wall = time.process_time(), time.perf_counter()
    analysis = Analysis(model, inputs)
    result["analyze_s"] = round(time.process_time() - start, 2)
    result["wall_s"] = round(time.perf_counter() - wall, 2)
    result["added_mb"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    report = analysis.report
    result["folds"] = len(report.folds)
    result["repeated_blocks"] = sum(map(len, analysis.planes.copies.values()))
    result["trouble"] = [str(x) for x in (*report.failures, *report.unknown_ops, *report.rule_errors)]
    if result["parameters"] < 5e10:
        start = time.process_time()
        Analysis(model, inputs, reuse=False)
        result["alone_s"] = round(time.process_time() - start, 2)
    pipe.send(result)


def in_a_process(row: Row) -> dict[str, Any]:
    ours, theirs = multiprocessing.get_context("spawn").Pipe(duplex=False)
    child = multiprocessing.get_context("spawn").Process(target=measure, args=(row, theirs))
    child.start()
    theirs.close()
    try:
        result: dict[str, Any] = ours.recv()
    except EOFError:
        child.join()
        raise SystemExit(f"{row}: the process ended with code {child.exitcode}") from None
    child.join()
    return result


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as markdown."""
    columns = ("parameters", "tokens", "forward_s", "analyze_s", "alone_s", "added_mb", "folds", "repeated_blocks")
    lines = ["| curve | varied | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    for row in rows:
        fields = CURVES[row["curve"]][row["number"]][2]
        varied = {k: v for k, v in fields.items() if len({c[2].get(k) for c in CURVES[row["curve"]]}) > 1}
        cells = [f"{row[c]:,}" if c in row else "" for c in columns]
        name = ", ".join(f"{k} {v}" for k, v in varied.items()) or row["model"]
        lines.append(f"| {row['curve']} ({row['weights']}) | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curves", default=";".join(CURVES), help="names, separated by semicolons")
    parser.add_argument("--json", type=Path, help="where rows are kept; other curves in it stay")
    options = parser.parse_args()
    rows = []
    for curve in options.curves.split(";"):
        for number, row in enumerate(CURVES[curve]):
            rows.append({"curve": curve, "number": number, **in_a_process(row)})
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(
            json.dumps({"machine": machine(), "torch": torch.__version__, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()

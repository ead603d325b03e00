"""How long an export takes, over the time in which safetensors writes the same bytes from memory.

    python bench/export_speed.py --megabytes 512 --json bench/results/export_speed.json

A model of square layers is quantized in memory and kept as an artifact on the disk. For each dialect the two ways
of writing take turns, and the median of the ratios of neighbours is told: `safetensors.torch.save_file` of the
tensors that the dialect writes, and `export_artifact`, which reads the artifact, lays every tensor out anew and
writes. Both end with the bytes on the disk: the file that safetensors wrote is flushed as well. Seconds are told
by the clock and of the processor, and the ratio of the fastest rounds of both beside the median: other work on the
machine, and its host, only ever add.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import machine
from safetensors.torch import load_file, save_file

from mtcore.export import Artifact, QuantizedModule, SourceFiles, write_artifact
from mtcore.flow import export_artifact
from mtcore.formats import TensorFormat
from mtcore.formats.catalog import FP8_ROW, FP8_RUN, FP8_TILE, INT4_B128, NVFP4
from mtcore.numerics import dynamic_qparams, quantize
from mtcore.plan import Coverage, ModulePlan, Plan, SlotPlan
from mtcore.recipe.setting import Mode

SIDE = 4096
Case = tuple[TensorFormat, TensorFormat | None, Mode]
CASES: dict[str, Case] = {
    "compressed-tensors fp8": (FP8_ROW, FP8_ROW, "dynamic"),
    "compressed-tensors nvfp4": (NVFP4, None, "static"),
    "compressed-tensors int4": (INT4_B128, None, "static"),
    "modelopt fp8": (FP8_ROW, FP8_ROW, "dynamic"),
    "modelopt nvfp4": (NVFP4, None, "static"),
    "modelopt int4": (INT4_B128, None, "static"),
    "fp8": (FP8_TILE, FP8_RUN, "dynamic"),
    "awq": (INT4_B128, None, "static"),
    "gptq": (INT4_B128, None, "static"),
}


def artifact_of(case: Case, megabytes: int) -> Artifact:
    """Layers of SIDE × SIDE, all with the same values, whose codes take about so many bytes in the file."""
    weight, given, mode = case
    matrix = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0)) / 64
    coded = quantize(matrix, dynamic_qparams(matrix, weight))
    count = max(1, round(megabytes * 1_000_000 / coded.size_bytes))
    slots = [SlotPlan("weight", weight, "static", "by hand")]
    slots += [SlotPlan("input", given, mode, "by hand")] if given is not None else []
    shapes = (("weight", (SIDE, SIDE)),)
    modules = tuple(
        ModulePlan(f"layers.{n}", "Linear", "nn.Linear", shapes, tuple(slots), "by hand") for n in range(count)
    )
    plan = Plan("by hand", modules, (), (), (), Coverage(1, 1, 0))
    held = {module.name: QuantizedModule(module, {"weight": coded}, {}) for module in modules}
    return Artifact(plan, held, {"norm": torch.ones(SIDE)}, {}, SourceFiles({"dtype": "bfloat16"}))


def timed(work: Callable[[], object], warm: Callable[[], object]) -> tuple[float, float]:
    """Seconds until the bytes are on the disk, and seconds of the processor.

    As much is written and deleted just before: a virtual machine hands pages that are long free to its host, and to
    get them back can take ten times as long as to fill them.
    """
    os.sync()
    warm()
    start, busy = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - busy


def flushed(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """What is measured against: safetensors itself."""
    save_file(tensors, path, {"format": "pt"})
    with path.open("rb") as file:
        os.fsync(file.fileno())


def written_before(tensors: dict[str, torch.Tensor], path: Path) -> None:
    flushed(tensors, path)
    path.unlink()


def measure(name: str, megabytes: int, rounds: int, folder: Path) -> dict[str, Any]:
    dialect = name.split()[0]
    source = folder / "artifact"
    source.mkdir()
    write_artifact(artifact_of(CASES[name], megabytes), source)
    export_artifact(source, [dialect], folder / "first")
    tensors = load_file(folder / "first" / "model.safetensors")
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    pairs, file = [], folder / "theirs.safetensors"
    warm = partial(written_before, tensors, file)
    for number in range(rounds):
        out = folder / f"out-{number}"
        theirs = timed(partial(flushed, tensors, file), warm)
        file.unlink()
        ours = timed(partial(export_artifact, source, [dialect], out), warm)
        shutil.rmtree(out)
        pairs.append((ours, theirs))
    size = sum(tensor.nbytes for tensor in tensors.values())
    row: dict[str, Any] = {"case": name, "bytes": size, "rounds": rounds}
    for index, clock in enumerate(("", "cpu_")):
        ours, theirs = [pair[0][index] for pair in pairs], [pair[1][index] for pair in pairs]
        row[f"{clock}export_s"], row[f"{clock}save_file_s"] = statistics.median(ours), statistics.median(theirs)
        row[f"{clock}ratio"] = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
        row[f"{clock}fastest_ratio"] = min(ours) / min(theirs)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for name in options.cases.split(","):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(name, options.megabytes, options.rounds, Path(folder)))
        row = rows[-1]
        print(
            f"{row['case']:26} {row['bytes'] / 1e6:6.0f} MB  export {row['export_s']:5.2f} s  "
            f"save_file {row['save_file_s']:5.2f} s  ratio {row['ratio']:5.2f}, of the fastest "
            f"{row['fastest_ratio']:5.2f}, processor {row['cpu_ratio']:5.2f}, {row['cpu_fastest_ratio']:5.2f}"
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""What a column of GPTQ costs, launched and replayed through graphs, and whether both give the same bits.

python bench/gptq_steps.py                 # on a GPU; elsewhere nothing is replayed
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from torch import Tensor

from mtcore.calibration.math import gptq
from mtcore.calibration.math.replay import Replay, Work
from mtcore.calibration.scales import BlockScales
from mtcore.formats import WHOLE
from mtcore.numerics import block_amax, tensor_amax
from mtcore.plugins import default_registry

NAMES = ("int4_b128", "nvfp4", "fp8", "fp8_row", "int8_row")
SHAPES = ((1536, 640), (640, 2048))
"""Rows and columns, as Gemma-3-270M has them."""


class Launched(Replay):
    """Replays nothing."""

    def __call__(self, work: Work, *inputs: Tensor) -> tuple[Tensor, ...]:
        return work(*inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    device = parser.parse_args().device
    formats = default_registry().formats
    print(
        "| format | rows x columns | launched, us a column | replayed, us a column | bits |\n|---|---|---|---|---|"
    )
    for name in NAMES:
        fmt = formats[name]
        for rows, cols in SHAPES:
            generator = torch.Generator().manual_seed(0)
            weight, inputs = (torch.randn(n, cols, generator=generator).to(device) for n in (rows, 1024))
            outer = tensor_amax(weight) if fmt.outer is not None else None
            how = BlockScales(fmt, "mse") if fmt.block.cols != WHOLE else None
            amax, hessian = block_amax(weight, fmt.block), inputs.T @ inputs

            def run(replay: Replay, given: Any = (weight, hessian, fmt, amax, outer), how: Any = how) -> Any:
                return gptq(*given, order="blocks", estimate=how, replay=replay)

            results, micros = [], []
            for replay in (Launched(), Replay()):
                run(replay)  # compiles, and records
                synchronize(device)
                start = time.perf_counter()
                results.append(run(replay))
                synchronize(device)
                micros.append((time.perf_counter() - start) / cols * 1e6)
            one, other = results
            same = torch.equal(one.weight, other.weight) and torch.equal(one.amax, other.amax)
            found = f"{micros[0]:.0f} | {micros[1]:.0f} | {'same' if same else 'DIFFER'}"
            print(f"| {name} | {rows} x {cols} | {found} |", flush=True)


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()

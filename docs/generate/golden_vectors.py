"""Writes docs/reference/numerics/golden-vectors.json: what every built-in format makes of two small matrices."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtcore.formats import TensorFormat, builtin_formats
from mtcore.numerics import dequantize, dynamic_qparams, quantize

TARGET = Path(__file__).parents[1] / "reference" / "numerics" / "golden-vectors.json"

ABOUT = (
    "Every tensor is a row-major matrix. 'bits' hold one hexadecimal number of fixed width for each element, "
    "without separators; 'qdata' holds the packed bytes in memory order, row by row. Scales come from the matrix "
    "itself."
)

EDGES = (
    *(0.0, -0.0, 0.25, -0.25, 0.75, 1.25, 1.75, -2.5, 3.5, 5.0, 6.0, -6.0, 0.2500001, 0.2499999, -0.01, 1e-9),
    *(0.0,) * 16,
    *(1e-45, -1e-45, 1e-38, -3e-38, 0.0, 6e-39, 2e-38, 1.1754944e-38),
)


def inputs() -> dict[str, Tensor]:
    """The matrices: normal numbers with an outlier and ragged blocks; ties, zeros and subnormals."""
    numbers = random.Random(0)
    rows = [[numbers.gauss(0.0, deviation) for _ in range(136)] for deviation in (1.0, 0.003)]
    rows[0][70] = 12.5
    return {"normal": torch.tensor(rows), "edges": torch.tensor(EDGES).view(1, -1)}


def bits(tensor: Tensor) -> str:
    """The bits of every element as hexadecimal digits, most significant first."""
    width = tensor.element_size()
    unsigned = {1: torch.uint8, 2: torch.uint16, 4: torch.uint32}[width]
    return "".join(f"{number:0{2 * width}x}" for number in tensor.reshape(-1).view(unsigned).tolist())


def case(x: Tensor, fmt: TensorFormat) -> dict[str, Any]:
    """Everything that is stored for x, and its values in bf16."""
    q = quantize(x, dynamic_qparams(x, fmt))
    stored = q.tensors()
    return {
        "qdata": bytes(stored.pop("qdata").view(torch.uint8).flatten().tolist()).hex(),
        **{f"{name}_bits": bits(tensor) for name, tensor in stored.items()},
        "values_bf16_bits": bits(dequantize(q, torch.bfloat16)),
    }


def build() -> str:
    """The whole file."""
    matrices = inputs()
    content = {
        "about": ABOUT,
        "version": 1,
        "inputs": {name: {"shape": list(x.shape), "fp32_bits": bits(x)} for name, x in matrices.items()},
        "formats": {
            fmt.name: {"definition": str(fmt), **{name: case(x, fmt) for name, x in matrices.items()}}
            for fmt in builtin_formats()
        },
    }
    return json.dumps(content, indent=1) + "\n"


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(build())
    sys.stdout.write(f"{TARGET}: {TARGET.stat().st_size} bytes\n")

"""Quantizes tensors with nvidia-modelopt on the CPU; started by compare_modelopt.py in an environment of its own.

Usage: python modelopt_worker.py INPUTS.safetensors RESULTS.safetensors
Every result is named `<tensor>/<job>/<part>`; a job that raises leaves its message in the file's metadata instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import modelopt
import torch
from modelopt.torch.quantization.qtensor import (
    FP8QTensor,
    INT4QTensor,
    INT8QTensor,
    MXFP4QTensor,
    MXFP8QTensor,
    NF4QTensor,
    NVFP4QTensor,
)
from modelopt.torch.quantization.tensor_quant import FakeTensorQuantFunction, fp8_eager
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

Parts = dict[str, Tensor]


def nvfp4(x: Tensor) -> Parts:
    q, scale, scale_2 = NVFP4QTensor.quantize(x, 16)
    return {"qdata": q._quantized_data, "scale": scale, "scale_2": scale_2}


def mxfp4(x: Tensor) -> Parts:
    q, scale = MXFP4QTensor.quantize(x, 32)
    return {"qdata": q._quantized_data, "scale": scale}


def mxfp8(x: Tensor) -> Parts:
    q, scale = MXFP8QTensor.quantize(x)
    return {"qdata": q._quantized_data, "scale": scale}


def int4(x: Tensor) -> Parts:
    q, inv_scale = INT4QTensor.quantize(x, 128)
    return {"qdata": q._quantized_data, "inv_scale": inv_scale}


def nf4(x: Tensor) -> Parts:
    q, scale = NF4QTensor.quantize(x, 64, scale_block_size=256)
    return {"qdata": q._quantized_data, "scale": scale}


def fp8(x: Tensor) -> Parts:
    q, scale = FP8QTensor.quantize(x)
    return {"qdata": q._quantized_data, "scale": scale}


def fp8_row(x: Tensor) -> Parts:
    q, scale = FP8QTensor.quantize(x, axis=0)
    return {"qdata": q._quantized_data, "scale": scale}


def fp8_tile(x: Tensor) -> Parts:
    q, scale = FP8QTensor.quantize(x, block_sizes={0: 128, 1: 128})
    return {"qdata": q._quantized_data, "scale": scale}


def int8_row(x: Tensor) -> Parts:
    q, scale = INT8QTensor.quantize(x, axis=0)
    return {"qdata": q._quantized_data, "scale": scale}


def fake_int8_row(x: Tensor) -> Parts:
    amax = x.abs().amax(dim=1, keepdim=True)
    return {"values": FakeTensorQuantFunction.apply(x, amax)}


def fake_fp8(x: Tensor) -> Parts:
    return {"values": fp8_eager(x, x.abs().amax())}


JOBS: dict[str, Callable[[Tensor], Parts]] = {
    job.__name__: job
    for job in (nvfp4, mxfp4, mxfp8, int4, nf4, fp8, fp8_row, fp8_tile, int8_row, fake_int8_row, fake_fp8)
}


def main(source: str, target: str) -> None:
    results: Parts = {}
    notes = {"modelopt": modelopt.__version__, "torch": torch.__version__}
    with safe_open(source, framework="pt") as file:
        inputs = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    for tensor_name, x in inputs.items():
        for job_name, job in JOBS.items():
            try:
                parts = job(x.clone())
            except Exception as error:  # noqa: BLE001 - whatever the peer raises is a result that is reported
                notes[f"{tensor_name}/{job_name}"] = f"{type(error).__name__}: {error}"
                continue
            results |= {f"{tensor_name}/{job_name}/{part}": t.contiguous() for part, t in parts.items()}
    save_file(results, target, metadata=notes)


if __name__ == "__main__":
    main(*sys.argv[1:])

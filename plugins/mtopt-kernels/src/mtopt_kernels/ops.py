"""The plugin's torch operations: `torch.ops.mtopt_kernels.*`. Triton is imported when the first one runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import torch

from mtcore.backends import (
    ADD_GRAM,
    BLOCK_AMAX,
    COLUMN_STATISTICS,
    DEQUANTIZE,
    FAKE_QUANTIZE,
    HADAMARD,
    LINEAR,
    LINEARS,
    QUANTIZE,
    SWEEP_AMAX,
    Operation,
)
from mtopt_kernels.fused import LINEARS_OF_CODES, fused_linear, fused_linears

NAMESPACE = "mtopt_kernels"


@cache
def _launching(module: str, name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(import_module(f"mtopt_kernels.{module}"), name)
    return function


def _implemented(operation: Operation, module: str, kind: str) -> tuple[str, Callable[..., Any]]:
    """A torch operation and the name of what it calls in a module: with a `kind` in front if there are several."""
    name = f"{kind}_{operation.name}" if kind else operation.name

    def launch(*arguments: Any) -> Any:
        return _launching(module, name)(*arguments)

    return name, operation.implement(NAMESPACE, launch, suffix=f"_{kind}" if kind else "")


_OF_CODES = {kind: _implemented(LINEARS_OF_CODES, "linear", kind)[1] for kind in ("nvfp4_fp8", "fp8", "int8")}


def _run(
    operation: Operation, module: str, kind: str = "", fused: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """What runs an operation, to be a function of this module under the name that `module` has for it: so it can be
    pickled.

    Args:
        fused: the same by plain torch and a product of codes, its first argument, for a graph that is compiled;
            where it returns None, that is left to the one operation.
    """
    name, implemented = _implemented(operation, module, kind)
    of_codes = _OF_CODES.get(kind)

    def run(*arguments: Any) -> Any:
        result = fused(of_codes, *arguments) if fused is not None and torch.compiler.is_compiling() else None
        return implemented(*arguments) if result is None else result

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"See `mtcore.backends.reference.{operation.name}`."
    return run


fake_quantize = _run(FAKE_QUANTIZE, "launch")
quantize = _run(QUANTIZE, "launch")
dequantize = _run(DEQUANTIZE, "launch")
block_amax = _run(BLOCK_AMAX, "launch")
column_statistics = _run(COLUMN_STATISTICS, "calibration")
add_gram = _run(ADD_GRAM, "calibration")
sweep_amax = _run(SWEEP_AMAX, "calibration")
hadamard = _run(HADAMARD, "calibration")
nvfp4_linear = _run(LINEAR, "linear", "nvfp4")
nvfp4_linears = _run(LINEARS, "linear", "nvfp4")
nvfp4_scaled_linear = _run(LINEAR, "linear", "nvfp4_scaled")
nvfp4_fp8_linear = _run(LINEAR, "linear", "nvfp4_fp8", fused_linear)
nvfp4_fp8_linears = _run(LINEARS, "linear", "nvfp4_fp8", fused_linears)
int4_linear = _run(LINEAR, "linear", "int4")
int4_linears = _run(LINEARS, "linear", "int4")
fp8_linear = _run(LINEAR, "linear", "fp8", fused_linear)
fp8_linears = _run(LINEARS, "linear", "fp8", fused_linears)
int8_linear = _run(LINEAR, "linear", "int8", fused_linear)
int8_linears = _run(LINEARS, "linear", "int8", fused_linears)
dequantized_linear = _run(LINEAR, "linear", "dequantized")

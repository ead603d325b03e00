"""The plugin's torch operations: `torch.ops.mtopt_kernels.*`. Triton is imported when the first one runs."""

from __future__ import annotations

from collections.abc import Callable
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
)
from mtopt_kernels.fused import LINEARS_OF_CODES, fused_linear, fused_linears

NAMESPACE = "mtopt_kernels"


def _launcher(name: str) -> Any:
    def launch(*arguments: Any) -> Any:
        from mtopt_kernels import launch as launching

        return getattr(launching, name)(*arguments)

    return launch


def _product(name: str) -> Any:
    def launch(*arguments: Any) -> Any:
        from mtopt_kernels import linear

        return getattr(linear, name)(*arguments)

    return launch


def _for_calibration(name: str) -> Any:
    def launch(*arguments: Any) -> Any:
        from mtopt_kernels import calibration

        return getattr(calibration, name)(*arguments)

    return launch


_FAKE_QUANTIZE = FAKE_QUANTIZE.implement(NAMESPACE, _launcher("fake_quantize"))
_QUANTIZE = QUANTIZE.implement(NAMESPACE, _launcher("quantize"))
_DEQUANTIZE = DEQUANTIZE.implement(NAMESPACE, _launcher("dequantize"))
_BLOCK_AMAX = BLOCK_AMAX.implement(NAMESPACE, _launcher("block_amax"))
_COLUMN_STATISTICS = COLUMN_STATISTICS.implement(NAMESPACE, _for_calibration("column_statistics"))
_ADD_GRAM = ADD_GRAM.implement(NAMESPACE, _for_calibration("add_gram"))
_SWEEP_AMAX = SWEEP_AMAX.implement(NAMESPACE, _for_calibration("sweep_amax"))
_HADAMARD = HADAMARD.implement(NAMESPACE, _for_calibration("hadamard"))
_NVFP4_LINEAR = LINEAR.implement(NAMESPACE, _product("nvfp4_linear"), suffix="_nvfp4")
_NVFP4_SCALED_LINEAR = LINEAR.implement(NAMESPACE, _product("nvfp4_scaled_linear"), suffix="_nvfp4_scaled")
_FP8_LINEAR = LINEAR.implement(NAMESPACE, _product("fp8_linear"), suffix="_fp8")
_NVFP4_FP8_LINEAR = LINEAR.implement(NAMESPACE, _product("nvfp4_fp8_linear"), suffix="_nvfp4_fp8")
_INT4_LINEAR = LINEAR.implement(NAMESPACE, _product("int4_linear"), suffix="_int4")
_INT8_LINEAR = LINEAR.implement(NAMESPACE, _product("int8_linear"), suffix="_int8")
_TOGETHER = {
    kind: LINEARS.implement(NAMESPACE, _product(f"{kind}_linears"), suffix=f"_{kind}")
    for kind in ("nvfp4", "nvfp4_fp8", "int4", "fp8", "int8")
}
_OF_CODES = {
    kind: LINEARS_OF_CODES.implement(NAMESPACE, _product(f"{kind}_linears_of_codes"), suffix=f"_{kind}")
    for kind in ("nvfp4_fp8", "fp8", "int8")
}
_DEQUANTIZED_LINEAR = LINEAR.implement(NAMESPACE, _product("dequantized_linear"), suffix="_dequantized")


def _fused_or(operation: Callable[..., Any], fused: Callable[..., Any], kind: str, arguments: Any) -> Any:
    """By one operation; but in a graph that is compiled, by plain torch and a product of codes, if `fused` does."""
    result = fused(_OF_CODES[kind], *arguments) if torch.compiler.is_compiling() else None
    return operation(*arguments) if result is None else result


def fake_quantize(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.fake_quantize`."""
    return _FAKE_QUANTIZE(*arguments)


def quantize(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.quantize`."""
    return _QUANTIZE(*arguments)


def dequantize(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.dequantize`."""
    return _DEQUANTIZE(*arguments)


def block_amax(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.block_amax`."""
    return _BLOCK_AMAX(*arguments)


def column_statistics(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.column_statistics`."""
    return _COLUMN_STATISTICS(*arguments)


def add_gram(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.add_gram`."""
    return _ADD_GRAM(*arguments)


def sweep_amax(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.sweep_amax`."""
    return _SWEEP_AMAX(*arguments)


def hadamard(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.hadamard`."""
    return _HADAMARD(*arguments)


def nvfp4_linear(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.linear`; the weight as `mtopt_kernels.prepack` lays it out."""
    return _NVFP4_LINEAR(*arguments)


def nvfp4_scaled_linear(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.linear`."""
    return _NVFP4_SCALED_LINEAR(*arguments)


def fp8_linear(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.linear`."""
    return _fused_or(_FP8_LINEAR, fused_linear, "fp8", arguments)


def nvfp4_fp8_linear(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.linear`; the weight as `mtopt_kernels.prepack` lays it out."""
    return _fused_or(_NVFP4_FP8_LINEAR, fused_linear, "nvfp4_fp8", arguments)


def int4_linear(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.linear`; the weight as `mtopt_kernels.prepack` lays it out."""
    return _INT4_LINEAR(*arguments)


def int8_linear(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.linear`."""
    return _fused_or(_INT8_LINEAR, fused_linear, "int8", arguments)


def dequantized_linear(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.linear`."""
    return _DEQUANTIZED_LINEAR(*arguments)


def nvfp4_linears(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.linears`; the weights as `mtopt_kernels.prepack` lays them out."""
    return _TOGETHER["nvfp4"](*arguments)


def nvfp4_fp8_linears(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.linears`; the weights as `mtopt_kernels.prepack` lays them out."""
    return _fused_or(_TOGETHER["nvfp4_fp8"], fused_linears, "nvfp4_fp8", arguments)


def int4_linears(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.linears`; the weights as `mtopt_kernels.prepack` lays them out."""
    return _TOGETHER["int4"](*arguments)


def fp8_linears(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.linears`."""
    return _fused_or(_TOGETHER["fp8"], fused_linears, "fp8", arguments)


def int8_linears(*arguments: Any) -> Any:
    """See `mtcore.backends.reference.linears`."""
    return _fused_or(_TOGETHER["int8"], fused_linears, "int8", arguments)

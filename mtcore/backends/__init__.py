"""Kernels: what can be computed by something faster than the specification, and which one is chosen for a plan."""

from mtcore.backends.builtin import builtin_kernels
from mtcore.backends.choice import KernelChoice, choose_kernel
from mtcore.backends.gemm import gemm_registry
from mtcore.backends.keys import format_key, format_of_key
from mtcore.backends.operations import (
    BLOCK_AMAX,
    DEQUANTIZE,
    FAKE_QUANTIZE,
    LINEAR,
    OPERATIONS,
    QUANTIZE,
    Operation,
    code_dtype,
    scale_dtype,
)
from mtcore.backends.reference import qparams_of
from mtcore.backends.spec import KernelSpec, Use

__all__ = [
    "BLOCK_AMAX",
    "DEQUANTIZE",
    "FAKE_QUANTIZE",
    "LINEAR",
    "OPERATIONS",
    "QUANTIZE",
    "KernelChoice",
    "KernelSpec",
    "Operation",
    "Use",
    "builtin_kernels",
    "choose_kernel",
    "code_dtype",
    "format_key",
    "format_of_key",
    "gemm_registry",
    "qparams_of",
    "scale_dtype",
]

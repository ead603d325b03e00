"""Kernels: what can be computed by something faster than the specification, and which one is chosen for a plan."""

from mtcore.backends.builtin import builtin_kernels
from mtcore.backends.choice import KernelChoice, choose_kernel
from mtcore.backends.gemm import gemm_registry
from mtcore.backends.keys import format_key, format_of_key
from mtcore.backends.offer import Offer, kernel_for, offered
from mtcore.backends.operations import (
    ADD_GRAM,
    BLOCK_AMAX,
    COLUMN_STATISTICS,
    DEQUANTIZE,
    FAKE_QUANTIZE,
    HADAMARD,
    LINEAR,
    LINEARS,
    OPERATIONS,
    QUANTIZE,
    SWEEP_AMAX,
    Operation,
    code_dtype,
    scale_dtype,
)
from mtcore.backends.reference import qparams_of
from mtcore.backends.spec import KernelSpec, Use

__all__ = [
    "ADD_GRAM",
    "BLOCK_AMAX",
    "COLUMN_STATISTICS",
    "DEQUANTIZE",
    "FAKE_QUANTIZE",
    "HADAMARD",
    "LINEAR",
    "LINEARS",
    "OPERATIONS",
    "QUANTIZE",
    "SWEEP_AMAX",
    "KernelChoice",
    "KernelSpec",
    "Offer",
    "Operation",
    "Use",
    "builtin_kernels",
    "choose_kernel",
    "code_dtype",
    "format_key",
    "format_of_key",
    "gemm_registry",
    "kernel_for",
    "offered",
    "qparams_of",
    "scale_dtype",
]

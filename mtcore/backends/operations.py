"""The operations that kernels implement: schema, torch reference, and what the results look like.

An implementation becomes a `torch.library` operation by `Operation.implement`: torch.compile and CUDA graphs then
see one opaque call whose result's shape they know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtcore.backends import reference
from mtcore.backends.keys import format_of_key
from mtcore.formats import (
    Block,
    CodedElement,
    Element,
    Float32Element,
    IntElement,
    PowerOfTwoElement,
    TensorFormat,
)
from mtcore.numerics.cast import NATIVE_FLOATS
from mtcore.numerics.log_counts import LOG_BINS
from mtcore.numerics.pack import packed_cols


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        name: what records name.
        schema: arguments and results in the language of torch.library.
        reference: in plain torch; its docstring is the specification.
        fake: results without values, for tracing compilers.
    """

    name: str
    schema: str
    reference: Callable[..., Any]
    fake: Callable[..., Any]

    def implement(
        self, namespace: str, kernel: Callable[..., Any], device: str = "CUDA", suffix: str = ""
    ) -> Callable[..., Any]:
        """Register `kernel` as the operation `namespace::name` + suffix; returns the operation.

        Args:
            namespace: of the plugin; a name is registered once a process.
            kernel: takes the schema's arguments by position; its results share no memory with arguments.
            device: torch's dispatch key: CUDA, CPU, …
            suffix: tells two implementations of one plugin apart.

        Example:
            >>> from mtcore.backends import OPERATIONS
            >>> op = OPERATIONS["block_amax"].implement("readme", lambda x, r, c: x.abs().amax((0, 1), True), "CPU")
            >>> op(torch.tensor([[1.0, -3.0]]), -1, -1)
            tensor([[3.]])
        """
        name = self.name + suffix
        library = _library(namespace)
        library.define(name + self.schema)  # type: ignore[no-untyped-call]
        library.impl(name, kernel, device)  # type: ignore[no-untyped-call]
        torch.library.register_fake(f"{namespace}::{name}", self.fake, lib=library)
        operation: Callable[..., Any] = getattr(getattr(torch.ops, namespace), name).default
        return operation


_LIBRARIES: dict[str, torch.library.Library] = {}


def _library(namespace: str) -> torch.library.Library:
    """A library lives as long as the process: its operations vanish with it."""
    if namespace not in _LIBRARIES:
        _LIBRARIES[namespace] = torch.library.Library(namespace, "FRAGMENT")  # type: ignore[no-untyped-call]
    return _LIBRARIES[namespace]


def code_dtype(element: CodedElement) -> torch.dtype:
    """The dtype in which codes of an element are stored (see `mtcore.numerics.encode`)."""
    if element in NATIVE_FLOATS:
        return NATIVE_FLOATS[element]
    signed_byte = isinstance(element, IntElement) and element.bits == 8 and element.signed
    return torch.int8 if signed_byte else torch.uint8


def scale_dtype(element: Element) -> torch.dtype:
    """The dtype in which scales of an element are stored."""
    if isinstance(element, Float32Element):
        return torch.float32
    return torch.uint8 if isinstance(element, PowerOfTwoElement) else code_dtype(element)


def _like(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _fake_codes(x: Tensor, amax: Tensor | None, outer_amax: Tensor | None, format: str) -> tuple[Tensor, ...]:
    fmt = format_of_key(format)
    rows, cols = x.shape
    outer = x.new_empty((reference.NOTHING_2,) if fmt.outer is None else (), dtype=torch.float32)
    qdata = x.new_empty((rows, packed_cols(cols, fmt.element.bits)), dtype=code_dtype(fmt.element))
    return qdata, x.new_empty(_grid(fmt, rows, cols), dtype=scale_dtype(fmt.inner.element)), outer


def _grid(fmt: TensorFormat, rows: int, cols: int) -> tuple[int, int]:
    return fmt.block.grid(rows, cols)


def _fake_values(
    qdata: Tensor, scale: Tensor, scale_2: Tensor | None, cols: int, dtype: torch.dtype, *_: Any
) -> Tensor:
    return qdata.new_empty((qdata.shape[0], cols), dtype=dtype)


def _fake_amax(x: Tensor, rows: int, cols: int) -> Tensor:
    return x.new_empty(Block(rows, cols).grid(*x.shape), dtype=torch.float32)


def _fake_statistics(x: Tensor, moments: bool, histogram: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    cols = x.shape[1]
    total, squares = (x.new_empty((cols if moments else 0,), dtype=torch.float32) for _ in range(2))
    counts = x.new_empty((LOG_BINS if histogram else 0,), dtype=torch.int64)
    return x.new_empty((cols,)), total, squares, counts


def _fake_nothing(*_: Any) -> None:
    return None


def _fake_magnitudes(x: Tensor, amax: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(amax, memory_format=torch.contiguous_format)


def _fake_rotated(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, dtype=torch.float32, memory_format=torch.contiguous_format)


def _fake_linear(x: Tensor, *others: Any) -> Tensor:
    features: int = others[-3]
    return x.new_empty((x.shape[0], features))


def _fake_linears(x: Tensor, *others: Any) -> list[Tensor]:
    features: list[int] = others[-3]
    return [x.new_empty((x.shape[0], width)) for width in features]


_MAGNITUDES = "Tensor? amax, Tensor? outer_amax"

FAKE_QUANTIZE = Operation(
    "fake_quantize", f"(Tensor x, {_MAGNITUDES}, str format) -> Tensor", reference.fake_quantize, _like
)
QUANTIZE = Operation(
    "quantize",
    f"(Tensor x, {_MAGNITUDES}, str format) -> (Tensor, Tensor, Tensor)",
    reference.quantize,
    _fake_codes,
)
DEQUANTIZE = Operation(
    "dequantize",
    "(Tensor qdata, Tensor scale, Tensor? scale_2, int cols, ScalarType dtype, str format) -> Tensor",
    reference.dequantize,
    _fake_values,
)
BLOCK_AMAX = Operation("block_amax", "(Tensor x, int rows, int cols) -> Tensor", reference.block_amax, _fake_amax)
COLUMN_STATISTICS = Operation(
    "column_statistics",
    "(Tensor x, bool moments, bool histogram) -> (Tensor, Tensor, Tensor, Tensor)",
    reference.column_statistics,
    _fake_statistics,
)
ADD_GRAM = Operation("add_gram", "(Tensor(a!) total, Tensor x) -> ()", reference.add_gram, _fake_nothing)
SWEEP_AMAX = Operation(
    "sweep_amax",
    "(Tensor x, Tensor amax, Tensor? outer_amax, Tensor? importance, int below, int above, str format) -> Tensor",
    reference.sweep_amax,
    _fake_magnitudes,
)
HADAMARD = Operation("hadamard", "(Tensor x, int size, bool inverse) -> Tensor", reference.hadamard, _fake_rotated)
LINEAR = Operation(
    "linear",
    "(Tensor x, Tensor qdata, Tensor scale, Tensor? scale_2, Tensor? input_amax, Tensor? input_outer_amax, "
    "Tensor? bias, int features, str format, str input_format) -> Tensor",
    reference.linear,
    _fake_linear,
)
LINEARS = Operation(
    "linears",
    "(Tensor x, Tensor[] qdata, Tensor[] scale, Tensor?[] scale_2, Tensor? input_amax, Tensor? input_outer_amax, "
    "Tensor?[] bias, int[] features, str format, str input_format) -> Tensor[]",
    reference.linears,
    _fake_linears,
)

OPERATIONS = {
    op.name: op
    for op in (
        FAKE_QUANTIZE, QUANTIZE, DEQUANTIZE, BLOCK_AMAX, COLUMN_STATISTICS, ADD_GRAM, SWEEP_AMAX, HADAMARD, LINEAR,
        LINEARS,
    )
}  # fmt: skip
"""All operations by name."""

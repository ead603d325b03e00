"""The quantized layers that mtcore brings."""

from __future__ import annotations

from collections.abc import Iterator

from mtcore.nn.quant_linear import LINEAR
from mtcore.nn.spec import QuantModuleSpec


def builtin_quant_modules() -> Iterator[QuantModuleSpec]:
    """The records of torch's own layers."""
    yield LINEAR

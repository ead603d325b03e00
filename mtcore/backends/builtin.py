"""The built-in kernels: the torch reference of every operation, which serves everything, after all others."""

from __future__ import annotations

from collections.abc import Iterator

from mtcore.backends.operations import OPERATIONS
from mtcore.backends.spec import KernelSpec, Use

LAST = -1000
"""The priority of the references."""


def builtin_kernels() -> Iterator[KernelSpec]:
    """One kernel an operation, named `torch.<operation>`."""
    for op in OPERATIONS.values():
        yield KernelSpec(f"torch.{op.name}", op.name, serves_all, op.reference, LAST)


def serves_all(use: Use) -> str | None:
    """No use is refused."""
    return None

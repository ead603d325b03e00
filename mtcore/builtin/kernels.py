"""The built-in kernels, as a hook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mtcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from mtcore.backends import KernelSpec


@hookimpl
def mtcore_kernels() -> Iterable[KernelSpec]:
    from mtcore.backends import builtin_kernels

    return builtin_kernels()

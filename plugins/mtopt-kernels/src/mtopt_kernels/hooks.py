"""What the plugin gives to mtcore: kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mtcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from mtcore.backends import KernelSpec

MTCORE_HOOK_API = "0.1"


@hookimpl
def mtcore_kernels() -> Iterator[KernelSpec]:
    from mtopt_kernels.specs import kernel_specs

    yield from kernel_specs()

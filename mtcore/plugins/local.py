"""Local additions: records that code of this process registers, without being an installed plugin."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mtcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from mtcore.backends.gemm import GemmRegistry
    from mtcore.backends.spec import KernelSpec
    from mtcore.calibration.spec import AlgorithmSpec
    from mtcore.nn.spec import QuantModuleSpec


class LocalAdditions:
    """A plugin whose records come and go while the process runs; `default_registry` has them as well.

    Attributes:
        quant_modules, algorithms: records by name.
        changes: how often something was added or removed, kernels of the `gemm_registry` included.
    """

    def __init__(self) -> None:
        self.quant_modules: dict[str, QuantModuleSpec] = {}
        self.algorithms: dict[str, AlgorithmSpec] = {}
        self._changes = 0

    def __bool__(self) -> bool:
        return bool(self.quant_modules or self.algorithms or _gemm_registry())

    @property
    def changes(self) -> int:
        gemm = _gemm_registry()
        return self._changes + (0 if gemm is None else gemm.changes)

    def add_quant_module(self, spec: QuantModuleSpec) -> None:
        """Add a quantized layer, or replace the local one of this name."""
        self.quant_modules[spec.name] = spec
        self._changes += 1

    def add_algorithm(self, spec: AlgorithmSpec) -> None:
        """Add a calibration algorithm, or replace the local one of this name."""
        self.algorithms[spec.name] = spec
        self._changes += 1

    def remove(self, name: str) -> None:
        """Take every local record of this name back; KeyError if there is none."""
        if name not in self.quant_modules and name not in self.algorithms:
            raise KeyError(name)
        self.quant_modules.pop(name, None)
        self.algorithms.pop(name, None)
        self._changes += 1

    @hookimpl
    def mtcore_quant_modules(self) -> Iterable[QuantModuleSpec]:
        return tuple(self.quant_modules.values())

    @hookimpl
    def mtcore_kernels(self) -> Iterable[KernelSpec]:
        return tuple(_gemm_registry() or ())

    @hookimpl
    def mtcore_algorithms(self) -> Iterable[AlgorithmSpec]:
        return tuple(self.algorithms.values())


def _gemm_registry() -> GemmRegistry | None:
    """The registry of kernels of this process; None as long as nobody imported it, and so registered nothing."""
    module = sys.modules.get("mtcore.backends.gemm")
    return None if module is None else module.gemm_registry


LOCAL = LocalAdditions()
"""Those of this process."""

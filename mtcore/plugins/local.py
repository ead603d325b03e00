"""Local additions: records that code of this process registers, without being an installed plugin."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mtcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from mtcore.calibration.spec import AlgorithmSpec
    from mtcore.nn.spec import QuantModuleSpec


class LocalAdditions:
    """A plugin whose records come and go while the process runs; `default_registry` has them as well.

    Attributes:
        quant_modules, algorithms: records by name.
        changes: how often something was added or removed.
    """

    def __init__(self) -> None:
        self.quant_modules: dict[str, QuantModuleSpec] = {}
        self.algorithms: dict[str, AlgorithmSpec] = {}
        self.changes = 0

    def add_quant_module(self, spec: QuantModuleSpec) -> None:
        """Add a quantized layer, or replace the local one of this name."""
        self.quant_modules[spec.name] = spec
        self.changes += 1

    def add_algorithm(self, spec: AlgorithmSpec) -> None:
        """Add a calibration algorithm, or replace the local one of this name."""
        self.algorithms[spec.name] = spec
        self.changes += 1

    def remove(self, name: str) -> None:
        """Take every local record of this name back; KeyError if there is none."""
        if name not in self.quant_modules and name not in self.algorithms:
            raise KeyError(name)
        self.quant_modules.pop(name, None)
        self.algorithms.pop(name, None)
        self.changes += 1

    @hookimpl
    def mtcore_quant_modules(self) -> Iterable[QuantModuleSpec]:
        return tuple(self.quant_modules.values())

    @hookimpl
    def mtcore_algorithms(self) -> Iterable[AlgorithmSpec]:
        return tuple(self.algorithms.values())


LOCAL = LocalAdditions()
"""Those of this process."""

"""gemm_registry: kernels for products that a script brings without being a plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from mtcore.backends.operations import LINEAR
from mtcore.backends.spec import KernelSpec, Use


class GemmRegistry:
    """Kernels for the operation `linear` of this process; `default_registry()` has them as well.

    A package yields `KernelSpec` records from the hook `mtcore_kernels` instead.

    Attributes:
        changes: how often something was added or removed.
    """

    def __init__(self) -> None:
        self._specs: dict[str, KernelSpec] = {}
        self.changes = 0

    def register(
        self, name: str, run: Callable[..., Tensor], refuses: Callable[[Use], str | None], priority: int = 100
    ) -> KernelSpec:
        """Add a kernel, or replace the one of this name.

        Args:
            name: by which a choice shows it.
            run: takes the arguments of `mtcore.backends.reference.linear`.
            refuses: why it cannot serve a use (formats, device); None if it can.
            priority: the largest is chosen.

        Example:
            >>> from mtcore.backends import choose_kernel, reference
            >>> from mtcore.formats.catalog import FP8
            >>> import torch
            >>> def only_cpu(use):
            ...     return None if use.device.type == "cpu" else "needs a CPU"
            >>> spec = gemm_registry.register("mine", reference.linear, only_cpu)
            >>> print(choose_kernel(Use("linear", FP8, torch.device("cpu"), FP8), gemm_registry))
            linear fp8 x fp8: mine (cpu)
            >>> gemm_registry.unregister("mine")
        """
        spec = KernelSpec(name, LINEAR.name, refuses, run, priority)
        self._specs[name] = spec
        self.changes += 1
        return spec

    def unregister(self, name: str) -> None:
        """Take a kernel back; KeyError if there is none of this name."""
        del self._specs[name]
        self.changes += 1

    def __iter__(self) -> Iterator[KernelSpec]:
        return iter(tuple(self._specs.values()))

    def __len__(self) -> int:
        return len(self._specs)


gemm_registry = GemmRegistry()
"""That of this process."""

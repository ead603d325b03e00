"""Choosing a kernel: once for each use of a plan, with the reasons against those that were passed over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from mtcore.backends.keys import format_key
from mtcore.backends.operations import OPERATIONS
from mtcore.backends.spec import KernelSpec, Use
from mtcore.errors import PlanError


@dataclass(frozen=True)
class KernelChoice:
    """The kernel that serves a use, and why no other does.

    Attributes:
        use: what is computed.
        kernel: what computes it.
        refused: names of kernels of higher priority that are made for such formats, each with its reason.
        key: of the use's format, as the operation's arguments carry it; "" without one.
        input_key: of the use's input format; "" without one.

    It prints as one line: `fake_quantize nvfp4: torch.fake_quantize (cpu); triton.fake_quantize: needs a CUDA GPU`.
    """

    use: Use
    kernel: KernelSpec
    refused: tuple[tuple[str, str], ...]
    key: str
    input_key: str

    @property
    def is_reference(self) -> bool:
        """Whether it is the operation's definition in torch."""
        return self.kernel.run is OPERATIONS[self.use.op].reference

    def __str__(self) -> str:
        against = "".join(f"; {name}: {reason}" for name, reason in self.refused)
        return f"{self.use}: {self.kernel.name} ({device_name(self.use.device)}){against}"


def choose_kernel(use: Use, kernels: Iterable[KernelSpec]) -> KernelChoice:
    """The kernel of the highest priority that does not refuse; of equals, the first.

    Raises:
        PlanError: all refuse, or there is none for this operation.

    Example:
        >>> from mtcore.backends import builtin_kernels
        >>> from mtcore.formats.catalog import NVFP4
        >>> print(choose_kernel(Use("fake_quantize", NVFP4, torch.device("cpu")), builtin_kernels()))
        fake_quantize nvfp4: torch.fake_quantize (cpu)
    """
    refused: list[tuple[str, str]] = []
    candidates = [kernel for kernel in kernels if kernel.op == use.op]
    for kernel in sorted(candidates, key=lambda candidate: -candidate.priority):
        reason = kernel.refuses(use)
        if reason is None:
            inner = "" if use.input_format is None else format_key(use.input_format)
            key = "" if use.format is None else format_key(use.format)
            return KernelChoice(use, kernel, tuple(refused), key, inner)
        if reason:
            refused.append((kernel.name, reason))
    reasons = "; ".join(f"{name}: {reason}" for name, reason in refused) or "no plugin brings one"
    raise PlanError([f"no kernel computes {use} on {device_name(use.device)}: {reasons}"])


def device_name(device: torch.device) -> str:
    """The kind of a device; of a CUDA GPU with its architecture: "cuda sm_90"."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return device.type
    major, minor = torch.cuda.get_device_capability(device)
    return f"cuda sm_{major}{minor}"

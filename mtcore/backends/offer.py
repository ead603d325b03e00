"""Kernels on offer: what serves the work of a calibration that no quantizer holds a kernel for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch

from mtcore.backends.choice import KernelChoice, choose_kernel
from mtcore.backends.operations import OPERATIONS
from mtcore.backends.spec import KernelSpec, Use
from mtcore.formats import TensorFormat

_log = logging.getLogger("mtcore")


@dataclass(frozen=True)
class Offer:
    """Kernels, and which of them were chosen so far, each use once."""

    kernels: tuple[KernelSpec, ...]
    chosen: dict[Use, KernelChoice] = field(default_factory=dict)


_CURRENT: ContextVar[Offer | None] = ContextVar("offer", default=None)


@contextmanager
def offered(kernels: Iterable[KernelSpec]) -> Iterator[Offer]:
    """Inside, `kernel_for` chooses among these. What is yielded tells afterwards what was chosen.

    Example:
        >>> from mtcore.backends import builtin_kernels
        >>> with offered(builtin_kernels()) as offer:
        ...     statistics = kernel_for("column_statistics", torch.device("cpu"))
        >>> print(*offer.chosen.values())
        column_statistics: torch.column_statistics (cpu)
    """
    token = _CURRENT.set(Offer(tuple(kernels)))
    try:
        offer = _CURRENT.get()
        assert offer is not None
        yield offer
    finally:
        _CURRENT.reset(token)


def kernel_for(op: str, device: torch.device, fmt: TensorFormat | None = None) -> Callable[..., Any]:
    """What computes an operation on a device: the kernel on offer, or the reference where none is.

    Args:
        op: a name in `OPERATIONS`.
        fmt: of the use; None for an operation that has none.
    """
    offer = _CURRENT.get()
    if offer is None:
        return OPERATIONS[op].reference
    use = Use(op, fmt, device)
    choice = offer.chosen.get(use)
    if choice is None:
        choice = offer.chosen[use] = choose_kernel(use, offer.kernels)
        _log.info("%s", choice)
    return choice.kernel.run

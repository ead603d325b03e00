"""Values made in a thread while those before them are used: in order, and a bounded number of bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

AHEAD = 2
"""Values that are made before they are asked for; more would only wait, and take memory out of the caches."""

HELD_BYTES = 256 << 20
"""What the value in use and those made ahead take together; one that is larger is alone."""

T = TypeVar("T")


@contextmanager
def made_ahead(
    sizes: Sequence[int], make: Callable[[int], T], *, held_bytes: int = HELD_BYTES
) -> Iterator[Iterator[T]]:
    """Give `make(0)`, `make(1)`, … in order; while the body uses one, a thread makes the next.

    A value counts as in use until the next is asked for, so let go of it before. When the body ends, however it
    ends, the thread ends too, and nothing more is made.

    Args:
        sizes: of each value in bytes.
        make: called in one thread, one value after the other, without gradients.

    Raises:
        Exception: what `make` raised, when the value is asked for.

    Example:
        >>> with made_ahead([8, 8, 8], lambda k: k * k) as squares:
        ...     print(*squares)
        0 1 4
    """
    _wait_for_devices()
    with ThreadPoolExecutor(1, thread_name_prefix="made-ahead") as thread:
        try:
            yield _in_order(thread, sizes, torch.no_grad()(make), held_bytes)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)


def _in_order(
    thread: ThreadPoolExecutor, sizes: Sequence[int], make: Callable[[int], T], held_bytes: int
) -> Iterator[T]:
    begun: deque[Future[T]] = deque()
    first = 0  # the value that is asked for; those before it are used
    for first in range(len(sizes)):
        while first + len(begun) < len(sizes) and len(begun) <= AHEAD:
            following = first + len(begun) + 1
            if begun and sum(sizes[first:following]) > held_bytes:
                break
            begun.append(thread.submit(make, following - 1))
        yield begun.popleft().result()


def _wait_for_devices() -> None:
    """The thread has streams of its own, which do not wait for what was queued on the caller's."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for device in range(torch.cuda.device_count()):
            torch.cuda.synchronize(device)

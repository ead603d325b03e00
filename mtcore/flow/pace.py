"""Pace: how often work under way is kept on the disk, so that a kill costs little and keeping costs little."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY_SECONDS = 5.0
"""Nothing is kept more often."""
SHARE = 0.02
"""Keeping takes at most this part of the time between two times; so what takes long is kept seldom."""
FIRST_RATE = 200e6
"""Bytes a second that are counted on before a first time was measured."""


class Pace:
    """Keeps something now and then.

    Example:
        >>> now = iter([0, 4, 6, 6, 8, 100, 200, 200, 203])
        >>> pace = Pace(lambda: next(now))
        >>> for _ in range(4):  # keeping takes two seconds, so that a hundred are to pass
        ...     pace.perhaps(lambda: print("kept"), lambda: 100)
        kept
        kept
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._seconds_per_byte = 1 / FIRST_RATE

    def perhaps(self, keep: Callable[[], object], size: Callable[[], int]) -> None:
        """Keep it if it is time to; `size` says how many bytes that is."""
        waited = self._clock() - self._last
        if waited < EVERY_SECONDS or waited < (size() * self._seconds_per_byte) / SHARE:
            return
        begun = self._clock()
        keep()
        self._last = self._clock()
        self._seconds_per_byte = (self._last - begun) / max(1, size())

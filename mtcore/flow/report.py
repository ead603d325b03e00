"""How a long run speaks: phases with a size, progress inside them, and single lines. The CLI draws it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

_log = logging.getLogger("mtcore")


class Phase(Protocol):
    """A phase that is under way."""

    def advance(self, amount: int = 1) -> None:
        """`amount` more units are done."""


class Reporter(Protocol):
    """What a run tells while it works. Implementations must be cheap: `advance` is called once a batch."""

    def phase(self, name: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Phase]:
        """Enter a phase of `total` units (None: unknown); leaving the context ends it, also after an error."""

    def note(self, text: str) -> None:
        """One line for the user: a decision and its reason."""


class LoggingReporter:
    """The library's default: one log line a phase and a note, nothing on the screen."""

    class _Phase:
        def advance(self, amount: int = 1) -> None:
            """Progress inside a phase is not logged."""

    @contextmanager
    def phase(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Phase]:
        _log.info("%s%s", name, f" ({total} {unit})" if total else "")
        yield self._Phase()

    def note(self, text: str) -> None:
        _log.info("%s", text)

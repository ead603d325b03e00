"""Isolation: what goes wrong in one plugin becomes a LoadFailure of that plugin and stops nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mtcore.plugins.provenance import LoadFailure, Origin


@contextmanager
def isolated(origin: Origin, failures: list[LoadFailure]) -> Iterator[None]:
    """Whatever is raised inside ends the block and is appended to `failures`; Ctrl-C is the user's and passes."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  foreign code: a module may even call sys.exit() on import
        failures.append(LoadFailure.of(origin, error))

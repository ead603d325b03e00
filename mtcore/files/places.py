"""Places for what a run writes: whether one can be written, and whether it would take what the run reads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def local_path(source: str) -> Path | None:
    """The path that a source names, if something lies there; also behind prefixes (`with-code:./m`).

    Example:
        >>> local_path("toy:no/such/folder") is None
        True
    """
    rest, colon = source, ":"
    while colon:
        path = os.path.expanduser(rest)
        if rest and os.path.exists(path):
            return Path(path)
        _, colon, rest = rest.partition(":")
    return None


def taken_inputs(out: Path, inputs: Iterable[tuple[str, Path]]) -> list[str]:
    """Why `out` cannot be replaced: it is, or holds, what the run reads; empty if it can.

    Paths are compared as they are on the disk, without `..` and links.

    Args:
        inputs: what each one is, for the message ("the model"), and its path, which need not exist yet.
    """
    place = out.resolve()
    problems = []
    for kind, path in inputs:
        real = path.expanduser().resolve()
        if _same(place, real):
            problems.append(f"{out}: is {kind}, which this run would lose; name another place for the output")
        elif any(_same(place, parent) for parent in real.parents):
            problems.append(
                f"{out}: holds {kind} ({path}), which this run would lose; name another place for the output"
            )
    return problems


def parent_problems(path: Path) -> list[str]:
    """Why nothing can be made at `path`, by the nearest thing above it that exists; empty if it can."""
    parent = next(above for above in path.resolve().parents if os.path.lexists(above))
    if not parent.is_dir():
        return [f"{path}: cannot be written, {parent} is a file and no directory; name another place"]
    if not os.access(parent, os.W_OK | os.X_OK):
        return [f"{path}: cannot be written, the directory {parent} is read-only; allow it, or name another place"]
    return []


def file_problems(path: Path) -> list[str]:
    """Why no file can be written at `path`, in a directory that exists; empty if it can."""
    if path.is_dir():
        return [f"{path}: cannot be written, it is a directory; name a file in it"]
    found = parent_problems(path)
    if not found and not path.resolve().parent.is_dir():
        return [f"{path}: cannot be written, there is no directory {path.parent}; make it, or name another place"]
    return found


def _same(one: Path, other: Path) -> bool:
    """Whether two resolved paths are one place, also where letters' case or a mount give it two names."""
    if one == other:
        return True
    try:
        return one.samefile(other)
    except OSError:
        return False

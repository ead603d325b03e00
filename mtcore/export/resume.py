"""Work on a checkpoint that outlives a killed process: beside its place, with a key that says whose it is."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mtcore.errors import ExportError
from mtcore.export.stored import ARTIFACT_FILE
from mtcore.files import write_json

_KEY, _LOCK, _FOLDER = "key.json", "lock", "checkpoint"


@contextmanager
def resumable(out: Path, key: Mapping[str, str]) -> Iterator[Path]:
    """The directory in which the checkpoint for `out` is made, for this process alone.

    It holds what an earlier export with the same key wrote before it was killed, and is empty otherwise. It stays
    if the process is killed or interrupted; after an error it is removed.

    Args:
        key: all that decides the bytes.

    Raises:
        ExportError: another process writes there, or it cannot be made.
    """
    out = out.resolve()
    place = out.with_name(f".{out.name}.export")
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = (place / _LOCK).open("w")
    except OSError as error:
        raise ExportError([f"{place}: cannot be written ({error.strerror})"]) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it when a process is killed
        except OSError as error:
            raise ExportError(
                [f"{place}: another export works there; wait for it, or name another output"]
            ) from error
        if _read(place / _KEY) != dict(key):
            shutil.rmtree(place / _FOLDER, ignore_errors=True)
            write_json(place / _KEY, dict(key))
        try:
            yield place / _FOLDER
        except Exception:
            shutil.rmtree(place)
            raise
        shutil.rmtree(place)


def stored_key(folder: Path, **choices: object) -> dict[str, str]:
    """What an export of a stored artifact depends on: its description, its files, and what was chosen."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    facts = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return {
        "artifact": hashlib.sha256((folder / ARTIFACT_FILE).read_bytes()).hexdigest(),
        "files": hashlib.sha256(json.dumps(facts).encode()).hexdigest(),
        **{name: str(value) for name, value in choices.items()},
    }


def _read(file: Path) -> object:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # no key, or one that was cut short: what lies there is thrown away

"""The run directory: what a run has finished, beside its output, so that the next one goes on from there."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtcore.calibration import CalibrationSummary
from mtcore.errors import StateError, first_of
from mtcore.files import write_json

VERSION = 2
_JOURNAL, _LOCK = "journal.json", "lock"


@dataclass
class RunDirectory:
    """`<OUT>.run`: a journal (JSON), a result file for every finished unit, hidden states, the checkpoint to be.

    The journal is replaced as a whole after everything that it speaks of is on the disk.

    Attributes:
        path: of the directory.
        done: names of finished units.
        exporting: whether all units are done and the checkpoint is being written or put in its place.
    """

    path: Path
    key: Mapping[str, str]
    done: list[str] = field(default_factory=list)
    exporting: bool = False

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint is made before it is renamed to its place."""
        return self.path / "checkpoint"

    def result(self, number: int) -> Path:
        """The result file of a unit, by its number in the order of the run."""
        return self.path / f"result-{number:05d}.safetensors"

    def told(self, number: int) -> Path:
        """What a unit's calibration told; absent where it has nothing quantized."""
        return self.path / f"told-{number:05d}.json"

    def summary(self) -> CalibrationSummary:
        """What the calibration of all units told, those of earlier processes too."""
        found = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.path.glob("told-*.json")))
        return CalibrationSummary.joined(map(CalibrationSummary.from_json, found))

    def states(self, number: int) -> Path:
        """The folder of the hidden states that enter a block."""
        return self.path / f"states-{number:05d}"

    def finish(self, unit: str) -> None:
        """A unit's result and the states that follow are on the disk."""
        self.done.append(unit)
        self._write()

    def begin_export(self) -> None:
        """All units are done."""
        self.checkpoint.mkdir(exist_ok=True)  # before the journal says so; see `placed`
        self.exporting = True
        self._write()

    def placed(self, out: Path) -> bool:
        """Whether the checkpoint stands in its place already, and only this directory is left over."""
        return self.exporting and not self.checkpoint.exists() and out.is_dir()

    def remove(self) -> None:
        """The run is over. What is large goes first, while the journal still says that the same call ends here."""
        _clear(self.path, keep=lambda name: name in (_JOURNAL, _LOCK) or name.startswith("told-"))
        (self.path / _JOURNAL).unlink(missing_ok=True)
        shutil.rmtree(self.path)

    def _write(self) -> None:
        content = {"version": VERSION, "key": dict(self.key), "done": self.done, "exporting": self.exporting}
        write_json(self.path / _JOURNAL, content)


def is_unfinished(out: Path) -> bool:
    """Whether an earlier run of this output left a run directory."""
    return (run_place(out) / _JOURNAL).exists()


@contextmanager
def run_directory(out: Path, key: Mapping[str, str], *, restart: bool) -> Iterator[RunDirectory]:
    """The run directory of an output, for this process alone; a new one, or that of a run with the same key.

    Args:
        key: hashes of all that decides the result, by what a user calls it.
        restart: remove what an earlier run left.

    A run that fails before it has done anything leaves no directory.

    Raises:
        StateError: another run works there; or the run there was one of another model, recipe, … which is named;
            or files of something else lie there.
    """
    path = run_place(out)
    path.mkdir(parents=True, exist_ok=True)
    with (path / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it when a process is killed
        except OSError as error:
            raise StateError(f"{path}: another run works there; wait for it, or name another output") from error
        found = None if restart else _read(path / _JOURNAL)
        if found is None:
            _check_own(path)
            _clear(path)
            directory = RunDirectory(path, key)
        else:
            _check(path, found, key)
            directory = RunDirectory(path, key, list(found["done"]), bool(found["exporting"]))
        try:
            if found is None:
                directory._write()
            yield directory
        except Exception:
            if not directory.done:
                directory.remove()
            raise


def run_place(out: Path) -> Path:
    """Where the run directory of an output lies."""
    out = out.resolve()
    return out.with_name(f"{out.name}.run")


def _read(journal: Path) -> dict[str, Any] | None:
    if not journal.exists():
        return None
    try:
        content: dict[str, Any] = json.loads(journal.read_text())
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}, but this mtcore writes {VERSION}")
        missing = {"key", "done", "exporting"} - content.keys()
        if missing:
            raise ValueError(f"no {', '.join(sorted(missing))}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"{journal}: no journal of a run ({error}); --restart throws it away") from error
    return content


def _check_own(path: Path) -> None:
    """Raise StateError where something lies that no run left, before it would be cleared away."""
    ours = ("result-", "told-", "states-")
    names = (_JOURNAL, f"{_JOURNAL}.partial", _LOCK, "checkpoint")
    others = sorted(entry.name for entry in path.iterdir() if entry.name not in names)
    others = [name for name in others if not name.startswith(ours)]
    if others:
        raise StateError(
            f"{path}: a run block by block works in this directory, but it holds {first_of(others)}, which no run "
            "left; move them away, or name another output"
        )


def _check(path: Path, found: Mapping[str, Any], key: Mapping[str, str]) -> None:
    changed = [name for name, value in key.items() if found["key"].get(name) != value]
    if changed:
        raise StateError(
            f"{path}: an unfinished run of another {' and another '.join(changed)} lies there "
            f"({len(found['done'])} blocks done); ask for the same again to go on with it, or give --restart to "
            "throw it away"
        )


def _clear(path: Path, keep: Callable[[str], bool] = lambda name: name == _LOCK) -> None:
    for entry in path.iterdir():
        if keep(entry.name):
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()

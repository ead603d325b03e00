"""UnifiedExporter: one artifact, any dialect; a directory appears whole or not at all."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mtcore.errors import ExportError, UnknownNameError
from mtcore.export.artifact import Artifact
from mtcore.export.spec import ExporterSpec
from mtcore.plan import Plan


@dataclass(frozen=True)
class Exported:
    """What was written: the directory, its files and their sizes in bytes."""

    directory: Path
    files: Mapping[str, int]

    @property
    def size_bytes(self) -> int:
        return sum(self.files.values())


class UnifiedExporter:
    """Writes artifacts in the dialects of a registry.

    Example:
        >>> UnifiedExporter({}).dialects
        ()
    """

    def __init__(self, exporters: Mapping[str, ExporterSpec]) -> None:
        self._exporters = exporters

    @property
    def dialects(self) -> tuple[str, ...]:
        return tuple(self._exporters)

    def check(self, plan: Plan, dialect: str, out: Path | None = None, *, overwrite: bool = False) -> None:
        """Ask, before a run, whether its result can be written.

        Raises:
            UnknownNameError: no such dialect.
            ExportError: what the dialect cannot express, module by module; or `out` exists.
        """
        problems = list(self._spec(dialect).check(plan))
        if out is not None:
            problems += _target_problems(out, overwrite=overwrite)
        if problems:
            raise ExportError(problems)

    def export(self, artifact: Artifact, out: Path, dialect: str, *, overwrite: bool = False) -> Exported:
        """Write `artifact` to the directory `out`.

        The files are written to a hidden directory beside `out`, which is renamed at the end; if anything fails,
        or the user interrupts, it is removed and `out` is as it was.

        Raises:
            UnknownNameError, ExportError: see `check`; also when the disk is full or not writable.
        """
        self.check(artifact.plan, dialect, out, overwrite=overwrite)
        spec = self._spec(dialect)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", suffix=".partial", dir=out.parent))
        except OSError as error:
            raise ExportError([f"{out}: cannot be written ({error.strerror})"]) from error
        try:
            spec.write(artifact, work)
            files = {
                str(path.relative_to(work)): path.stat().st_size
                for path in sorted(work.rglob("*"))
                if path.is_file()
            }
            work.chmod(0o755)
            _put_in_place(work, out)
        except OSError as error:
            raise ExportError([_disk_message(error, out)]) from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return Exported(out, files)

    def _spec(self, dialect: str) -> ExporterSpec:
        if dialect not in self._exporters:
            raise UnknownNameError("dialect", dialect, self._exporters)
        return self._exporters[dialect]


def _target_problems(out: Path, *, overwrite: bool) -> list[str]:
    if out.exists() and not out.is_dir():
        return [f"{out}: is a file; name a directory that does not exist"]
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        return [
            f"{out}: exists already and is not empty; name another directory or ask for it to be replaced (--force)"
        ]
    return []


def _put_in_place(work: Path, out: Path) -> None:
    """Rename `work` to `out`; what stood there is moved aside first and removed last."""
    if not out.exists():
        work.rename(out)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", suffix=".replaced", dir=out.parent))
    out.rename(aside / "old")
    try:
        work.rename(out)
    except OSError:
        (aside / "old").rename(out)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _disk_message(error: OSError, out: Path) -> str:
    if error.errno == errno.ENOSPC:
        return f"{out}: the disk is full; nothing was written. Free some space or name a directory on another disk"
    return f"{out}: could not be written ({error.strerror or error}); nothing was left behind"

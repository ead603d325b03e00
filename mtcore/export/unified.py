"""UnifiedExporter: one artifact, any dialect; a directory appears whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mtcore.errors import ExportError, look_up
from mtcore.export.artifact import Artifact, SourceFiles
from mtcore.export.atomic import target_problems, whole_directory
from mtcore.export.spec import ExporterSpec
from mtcore.export.targets import Target, choose_target
from mtcore.plan import Plan


@dataclass(frozen=True)
class Exported:
    """What was written: the directory, its files and their sizes in bytes."""

    directory: Path
    files: Mapping[str, int]

    @property
    def size_bytes(self) -> int:
        return sum(self.files.values())

    @classmethod
    def of(cls, directory: Path) -> Exported:
        """What lies in a directory that was written before."""
        return cls(directory, _sizes(directory))


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

    def check_target(self, dialect: str, out: Path, *, overwrite: bool = False) -> None:
        """Ask, before anything is loaded, whether the dialect is known and `out` may be written.

        Raises:
            UnknownNameError: no such dialect. ExportError: `out` exists.
        """
        self._spec(dialect)
        problems = target_problems(out, overwrite=overwrite)
        if problems:
            raise ExportError(problems)

    def check(self, plan: Plan, dialect: str, source: SourceFiles | None = None) -> None:
        """Ask, before a run, whether its result can be written.

        Args:
            source: what came with the model; where None, its configuration has no say.

        Raises:
            UnknownNameError: no such dialect.
            ExportError: what the dialect cannot express, module by module.
        """
        problems = self._spec(dialect).problems(plan, source)
        if problems:
            raise ExportError(problems)

    def target(self, plan: Plan, name: str, source: SourceFiles | None = None) -> Target:
        """The dialect for a target (a dialect's or a client's name), with notes and problems.

        Raises:
            UnknownNameError: no such target.
        """
        return choose_target(name, plan, self._exporters, source)

    def export(
        self,
        artifact: Artifact,
        out: Path,
        dialect: str,
        *,
        overwrite: bool = False,
        work: Path | None = None,
        max_shard_bytes: int | None = None,
    ) -> Exported:
        """Write `artifact` to the directory `out`.

        `out` appears whole at the end; if anything fails, or the user interrupts, it is as it was.

        Args:
            work: where the files are made, beside `out`. It outlives an interruption: the next export of the same
                artifact goes on there. None: a directory that does not.
            max_shard_bytes: the size of a weight file, which only a single larger tensor exceeds; the dialect's own
                where None.

        Raises:
            UnknownNameError, ExportError: see `check_target` and `check`; or the disk is full or not writable.
        """
        self.check(artifact.plan, dialect, artifact.source)
        spec = self._spec(dialect)
        if max_shard_bytes is not None and not spec.shards:
            raise ExportError([f"dialect {dialect} writes no shards; leave out the size of a shard"])
        copied = [(f"the model's {name}", path) for name, path in artifact.source.files.items()]
        options = {} if max_shard_bytes is None else {"max_shard_bytes": max_shard_bytes}
        with whole_directory(out, overwrite=overwrite, work=work, inputs=copied) as folder:
            spec.write(artifact, folder, **options)
            files = _sizes(folder)
        return Exported(out, files)

    def _spec(self, dialect: str) -> ExporterSpec:
        return look_up("dialect", dialect, self._exporters)


def _sizes(folder: Path) -> dict[str, int]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_size for path in found}

"""Where the checkpoints of a run go: the dialect that was asked for, or else the targets of the recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtcore.errors import CalibrationError, ExportError, UnknownNameError
from mtcore.export import (
    Exported,
    ExporterSpec,
    SourceFiles,
    Target,
    UnifiedExporter,
    target_names,
    target_problems,
)
from mtcore.plan import Finding, Plan
from mtcore.recipe import QuantizeConfig

DEFAULT_DIALECT = "compressed-tensors"
"""Of a run whose caller names no dialect, and whose recipe no target."""


@dataclass(frozen=True)
class Destinations:
    """The directories of a run, by the name of the dialect or client for which each one is.

    A single one is the output directory itself; several lie in it, under their names.
    """

    out: Path
    places: Mapping[str, Path]
    origin: str = ""

    @classmethod
    def of(cls, config: QuantizeConfig, dialect: str | None, out: Path) -> Destinations:
        """A dialect that is given goes before the targets of the recipe."""
        names = (dialect,) if dialect is not None else config.targets or (DEFAULT_DIALECT,)
        places = {names[0]: out} if len(names) == 1 else {name: out / name for name in names}
        return cls(out, places, "" if dialect is not None else config.targets_origin)

    def check(
        self,
        exporters: Mapping[str, ExporterSpec],
        *,
        overwrite: bool,
        blockwise: bool,
        inputs: Sequence[tuple[str, Path]] = (),
    ) -> None:
        """Ask, before anything is loaded, whether all are known and may be written.

        Args:
            inputs: what the run reads, which no directory may be or hold; see `taken_inputs`.

        Raises:
            UnknownNameError: no such dialect or client. ExportError: a directory is in the way, or an input.
            CalibrationError: several checkpoints of a run block by block, which writes one.
        """
        check_names(self.places, exporters, self.origin)
        if blockwise and len(self.places) > 1:
            raise CalibrationError(
                f"a run block by block writes one checkpoint, not one for each of {', '.join(self.places)} "
                f"({self.origin}); write an artifact (--dialect artifact), and `mtopt export` it to all of them"
            )
        check_places(self.out, self.places, inputs, overwrite=overwrite)

    def planned_for(self, exporters: Mapping[str, ExporterSpec]) -> str | None:
        """The dialect that says what layers may hold beside codes; None where it is not known before the plan."""
        names = list(self.places)
        return names[0] if len(names) == 1 and names[0] in exporters else None

    def targets(self, plan: Plan, exporter: UnifiedExporter, source: SourceFiles) -> Mapping[Path, Target]:
        """The target of every directory, with its dialect and notes.

        Raises:
            ExportError: what cannot be written for whom; nothing is written then.
        """
        chosen = {place: exporter.target(plan, name, source) for name, place in self.places.items()}
        several = len(chosen) > 1
        problems = [
            f"{target.name}: {problem}" if several else problem
            for target in chosen.values()
            for problem in target.problems
        ]
        if problems:
            raise ExportError(problems)
        return chosen

    def written(self) -> Exported:
        """What lies in the directories at the end."""
        if len(self.places) == 1:
            return Exported.of(self.out)
        files = {
            f"{name}/{file}": size
            for name, place in self.places.items()
            for file, size in Exported.of(place).files.items()
        }
        return Exported(self.out, files)


def check_places(
    out: Path, places: Mapping[str, Path], inputs: Sequence[tuple[str, Path]], *, overwrite: bool
) -> None:
    """Raise ExportError where a directory, at `out` or one of several in it, cannot be written or would take an
    input."""
    problems = [
        found for place in places.values() for found in target_problems(place, overwrite=overwrite, inputs=inputs)
    ]
    if len(places) > 1 and out.is_file():
        problems = [f"{out}: is a file; name a directory for the {len(places)} checkpoints"]
    if problems:
        raise ExportError(problems)


def check_names(names: Iterable[str], exporters: Mapping[str, ExporterSpec], origin: str = "") -> None:
    """Raise UnknownNameError for a name that is neither a dialect nor a client; it says where the name stands."""
    known = target_names(exporters)
    for name in names:
        if name not in known:
            raise UnknownNameError("target", name, known, f"See {origin}" if origin else "")


def noted(targets: Iterable[Target]) -> tuple[Finding, ...]:
    """What the targets fold, drop or change, as findings of a plan."""
    return tuple(Finding("note", target.name, note) for target in targets for note in target.notes)

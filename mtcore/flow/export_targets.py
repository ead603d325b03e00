"""One artifact, many targets: what `mtopt export` does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtcore import __version__
from mtcore.errors import ExportError
from mtcore.export import Artifact, Exported, Target, UnifiedExporter, open_artifact
from mtcore.export.resume import resumable, stored_key
from mtcore.flow.destinations import check_places
from mtcore.flow.report import LoggingReporter, Reporter
from mtcore.plugins import Registry, RunFacts, default_registry


@dataclass(frozen=True)
class TargetReport:
    """What became of one target; `exported` is None where it was refused."""

    target: Target
    exported: Exported | None = None

    def to_json(self) -> dict[str, Any]:
        written = self.exported
        return {
            **asdict(self.target),
            "directory": None if written is None else str(written.directory),
            "files": None if written is None else dict(written.files),
            "size_bytes": None if written is None else written.size_bytes,
        }


def export_artifact(
    source: str | Path | Artifact,
    targets: Sequence[str],
    out: Path,
    *,
    max_shard_bytes: int | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
    overwrite: bool = False,
) -> tuple[TargetReport, ...]:
    """Write an artifact for every target: one calibration, many checkpoints.

    Args:
        source: an artifact, or the directory of one (`mtopt quantize --dialect artifact`).
        targets: names of dialects or of clients ("vllm"); each once. Where there are none, those that the
            artifact's recipe names.
        out: the directory of the checkpoint where there is one target; where there are several, each has its own
            in it, under the target's name.
        max_shard_bytes: size of a weight file; the dialect's own where None.

    Every checkpoint appears whole or not at all. Of a stored artifact, the same call goes on where a killed one
    was: files that are whole are kept.

    Returns:
        A report for each target, in order. One that cannot be written is reported with its problems, and does not
        keep the others from being written.

    Raises:
        UnknownNameError: no such target. StateError: no such artifact. ExportError: there is no target, `out` is
            or holds the artifact, is in the way, the disk is full. All but the last before anything is written.
    """
    registry = registry or default_registry()
    reporter = reporter or LoggingReporter()
    artifact = source if isinstance(source, Artifact) else open_artifact(Path(source))
    exporter = UnifiedExporter(registry.exporters)
    names = tuple(dict.fromkeys(targets)) or artifact.plan.targets
    if not names:
        raise ExportError(["no target is named, and the recipe of the artifact names none; name one (--to vllm)"])
    chosen = [exporter.target(artifact.plan, name, artifact.source) for name in names]
    places = {target.name: out if len(names) == 1 else out / target.name for target in chosen}
    inputs = () if isinstance(source, Artifact) else (("the artifact", Path(source)),)
    check_places(out, places, inputs, overwrite=overwrite)
    facts = RunFacts(
        source=str(source) if not isinstance(source, Artifact) else "", recipe=artifact.plan.recipe, out=out
    )
    reports = []
    for target in chosen:
        if target.problems:
            reports.append(TargetReport(target))
            continue
        with registry.phase(facts, "export"), reporter.phase(f"export {target.name}"):
            place = places[target.name]
            key = {"dialect": target.dialect, "max_shard_bytes": max_shard_bytes, "mtcore": __version__}
            kept = (
                nullcontext() if isinstance(source, Artifact) else resumable(place, stored_key(Path(source), **key))
            )
            with kept as work:
                exported = exporter.export(
                    artifact,
                    place,
                    target.dialect,
                    overwrite=overwrite,
                    work=work,
                    max_shard_bytes=max_shard_bytes,
                )
        reports.append(TargetReport(target, exported))
    return tuple(reports)

"""The end of a run before its beginning: what each target would be written as, and what its client makes of it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mtcore.errors import ExportError
from mtcore.export import Artifact, SourceFiles, Target, UnifiedExporter
from mtcore.flow.loaded import LoadedModel
from mtcore.lint import ClientSpec, LintReport, lint, open_checkpoint
from mtcore.plan import Plan
from mtcore.plugins import Registry
from mtcore.quantization.rehearse import rehearse_artifact


@dataclass(frozen=True)
class Rehearsal:
    """What would become of one target.

    Attributes:
        target: the dialect that was chosen for it, and why it cannot be written, if so.
        files: files that would be written, with their sizes in bytes; empty where it is refused.
        report: what `mtopt lint` would say of these files; None where it is refused, or no client is known.
    """

    target: Target
    files: Mapping[str, int]
    report: LintReport | None = None

    @property
    def size_bytes(self) -> int:
        return sum(self.files.values())

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the target cannot be reached; empty if it can."""
        errors = () if self.report is None else self.report.findings
        found = [f"{one.where}: {one.why} ({one.rule})" for one in errors if one.severity == "error"]
        return (*self.target.problems, *found)

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self.target),
            "problems": list(self.problems),
            "files": dict(self.files),
            "size_bytes": self.size_bytes,
            "lint": None if self.report is None else self.report.to_json(),
        }


def rehearse(loaded: LoadedModel, plan: Plan, targets: Sequence[str], registry: Registry) -> tuple[Rehearsal, ...]:
    """Write what a plan would give for each target, without values and in no place, and lint it.

    The exporters themselves write: every file has its header, and holes for data. Rules that look at the values of
    scales have nothing to look at.

    Args:
        loaded: the model, with or without weights; they are not read.
        plan: made for it, without errors.
        targets: dialects or clients, as `mtopt export --to` knows them.

    Raises:
        UnknownNameError: neither a dialect nor a client.
    """
    exporter = UnifiedExporter(registry.exporters)
    chosen = [exporter.target(plan, name, loaded.files) for name in dict.fromkeys(targets)]
    artifact = rehearse_artifact(loaded.model, plan, registry.quant_modules, SourceFiles(loaded.files.config))
    return tuple(_rehearse(artifact, target, registry) for target in chosen)


def _rehearse(artifact: Artifact, target: Target, registry: Registry) -> Rehearsal:
    if target.problems:
        return Rehearsal(target, {})
    with tempfile.TemporaryDirectory(prefix="mtopt-rehearsal-") as place:
        folder = Path(place, target.dialect)
        try:
            exported = UnifiedExporter(registry.exporters).export(artifact, folder, target.dialect)
        except ExportError as error:
            return Rehearsal(replace(target, problems=error.problems), {})
        except NotImplementedError:  # torch's word for a tensor without values
            note = "its exporter cannot be tried without values; only the plan was looked at"
            return Rehearsal(replace(target, notes=(*target.notes, note)), {})
        clients = _clients(target, registry)
        if not clients:
            return Rehearsal(target, exported.files)
        checkpoint = open_checkpoint(folder, has_values=False)
        return Rehearsal(target, exported.files, lint(checkpoint, clients, registry.lint_rules.values()))


def _clients(target: Target, registry: Registry) -> list[ClientSpec]:
    """The client that the target is; none where it is a dialect, which is for several."""
    return [registry.clients[target.name]] if target.name in registry.clients else []

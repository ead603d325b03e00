"""Linting one checkpoint: all rules for some clients, and what came out as a value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from mtcore.lint.checkpoint import Checkpoint
from mtcore.lint.spec import ClientSpec, Reading, RuleSpec, Severity

_ORDER: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class LintFinding:
    """One finding: how bad, by which rule, for which clients, where, why, and what to do."""

    severity: Severity
    rule: str
    clients: tuple[str, ...]
    where: str
    why: str
    todo: str


@dataclass(frozen=True)
class LintReport:
    """What linting found.

    Attributes:
        findings: the worst first.
        readings: what each client takes the checkpoint for.
    """

    directory: str
    findings: tuple[LintFinding, ...]
    readings: dict[str, Reading]

    def worst(self, client: str) -> Severity | None:
        """The worst severity for a client; None where nothing was found."""
        found = {finding.severity for finding in self.findings if client in finding.clients}
        return next((severity for severity in _ORDER if severity in found), None)

    def loads(self, client: str) -> bool:
        """Whether the client is expected to load the checkpoint and compute what was meant."""
        return self.worst(client) != "error"

    def to_json(self) -> dict[str, Any]:
        return {
            "directory": self.directory,
            "clients": {
                name: {"loads": self.loads(name), **asdict(reading)} for name, reading in self.readings.items()
            },
            "findings": [asdict(finding) for finding in self.findings],
        }


def lint(checkpoint: Checkpoint, clients: Iterable[ClientSpec], rules: Iterable[RuleSpec]) -> LintReport:
    """Apply the rules that concern the clients. Reads headers, JSON files and small values only.

    Args:
        checkpoint: from `open_checkpoint`.
        clients: those that it is meant for.
        rules: all that are known.
    """
    chosen = tuple(clients)
    findings: list[LintFinding] = []
    for rule in rules:
        concerned = {client.name: severity for client in chosen if (severity := rule.severity_for(client.name))}
        if not concerned:
            continue
        for hit in rule.check(checkpoint):
            for severity in _ORDER:
                named = tuple(
                    name
                    for name, wanted in concerned.items()
                    if wanted == severity and (not hit.clients or name in hit.clients)
                )
                if named:
                    findings.append(LintFinding(severity, rule.name, named, hit.where, hit.why, hit.todo))
    findings.sort(key=lambda finding: _ORDER.index(finding.severity))
    readings = {client.name: client.read(checkpoint) for client in chosen}
    checkpoint.values.close()
    return LintReport(str(checkpoint.folder), tuple(findings), readings)

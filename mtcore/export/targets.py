"""Targets: from the name of a dialect or of a client to the exporter that serves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mtcore.errors import UnknownNameError
from mtcore.export.artifact import SourceFiles
from mtcore.export.spec import ExporterSpec
from mtcore.plan import Plan


@dataclass(frozen=True)
class Target:
    """Where a plan goes.

    Attributes:
        name: as the user wrote it: a dialect or a client.
        dialect: the exporter that was chosen.
        why: the reason for the choice; empty where the user named the dialect.
        notes: what that dialect folds, drops or changes.
        problems: why it is refused; empty if it can be written.
    """

    name: str
    dialect: str
    why: str = ""
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def target_names(exporters: Mapping[str, ExporterSpec]) -> tuple[str, ...]:
    """Every name that `choose_target` knows: dialects first, then clients."""
    clients = sorted({client.name for spec in exporters.values() for client in spec.clients})
    return (*exporters, *(name for name in clients if name not in exporters))


def choose_target(
    name: str, plan: Plan, exporters: Mapping[str, ExporterSpec], source: SourceFiles | None = None
) -> Target:
    """The dialect for a target.

    Of a client, the first dialect in the order of ranks which can express the plan and which the client then runs;
    where there is none, the first one, with its problems.

    Raises:
        UnknownNameError: neither a dialect nor a client.
    """
    if name in exporters:
        spec = exporters[name]
        return _target(name, spec, "", spec.problems(plan, source), plan, source)
    offers = [(client, spec) for spec in exporters.values() for client in spec.clients if client.name == name]
    if not offers:
        raise UnknownNameError("target", name, target_names(exporters))
    refused: list[Target] = []
    for client, spec in sorted(offers, key=lambda offer: offer[0].rank):
        problems = spec.problems(plan, source) or client.problems(plan, source)
        target = _target(name, spec, client.why, problems, plan, source)
        if not problems:
            return target
        refused.append(target)
    return refused[0]


def _target(
    name: str, spec: ExporterSpec, why: str, problems: tuple[str, ...], plan: Plan, source: SourceFiles | None
) -> Target:
    """A choice; a plan that is refused is not asked for notes, which may rest on what was checked."""
    return Target(name, spec.name, why, () if problems else spec.remarks(plan, source), problems)

"""What targets serve: choices of a search that a dialect or its client would refuse are no choices."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from mtcore.export import SourceFiles, UnifiedExporter
from mtcore.opt import AS_IT_IS, Decision
from mtcore.plan import Plan, without


def served(
    decisions: Sequence[Decision],
    plans: Mapping[str, Plan],
    targets: Sequence[str],
    exporter: UnifiedExporter,
    source: SourceFiles,
) -> tuple[Decision, ...]:
    """The decisions without the choices that some target refuses, each with its reason.

    Every choice of every decision is asked about alone, as a plan that leaves all other decisions as they are; the
    rules are those of `mtopt plan --to`. Whether the targets serve a mixture too is asked when one was found.

    Raises:
        UnknownNameError: neither a dialect nor a client.
    """
    decided = {name for decision in decisions for name in decision.modules}
    return tuple(_served(decision, plans, targets, exporter, source, decided) for decision in decisions)


def _served(
    decision: Decision,
    plans: Mapping[str, Plan],
    targets: Sequence[str],
    exporter: UnifiedExporter,
    source: SourceFiles,
    decided: Collection[str],
) -> Decision:
    bits, refused = dict(decision.bits), dict(decision.refused)
    for choice in [choice for choice in decision.bits if choice != AS_IT_IS]:
        alone = without(plans[choice], set(decided) - set(decision.modules))
        problems = [
            f"{target.name}: {target.problems[0]}"
            for target in (exporter.target(alone, name, source) for name in targets)
            if target.problems
        ]
        if problems:
            refused[choice] = problems[0]
            del bits[choice]
    return replace(decision, bits=bits, refused=refused)

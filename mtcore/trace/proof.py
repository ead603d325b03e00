"""Verify a report: all fold groups at once, halves of them where that fails, and what fails is dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from mtcore.trace.bisect import failing
from mtcore.trace.channels import SEARCHABLE
from mtcore.trace.folds import FoldGroup
from mtcore.trace.inputs import InputMaker, TraceInputs, example_inputs
from mtcore.trace.invariance import Invariance
from mtcore.trace.removal import RemovalCheck, check_removal
from mtcore.trace.report import TraceReport

TOLERANCE = 1e-5
"""Relative change of the output. Norms that compute in float32 leave up to 2e-6 in a double-precision model;
a wrong group changes the output by percents."""


@dataclass(frozen=True)
class Proof:
    """`report` without what failed; `dropped` says what that was, `error` is the change by all folds together."""

    report: TraceReport
    dropped: tuple[str, ...]
    error: float
    removals: tuple[RemovalCheck, ...] = ()


def verify(
    model: nn.Module,
    report: TraceReport,
    inputs: object = None,
    *,
    makers: Sequence[InputMaker] = (),
    removals: bool = False,
) -> Proof:
    """Scales every fold group by random numbers and compares outputs; bisects when they differ.

    Args:
        report: what `analyze` gave for this model.
        inputs: as for `recursive_trace`.
        removals: also remove channels of every searchable group from a copy; what is not equal is dropped.

    The model is not changed; copies of it are made, in double precision where it runs so.
    """
    given = example_inputs(model, makers) if inputs is None else TraceInputs.of(inputs)
    invariance = Invariance(model, given)
    wrong = failing(report.folds, lambda groups: invariance.change(_scaled(invariance, groups)) <= TOLERANCE)
    folds = tuple(group for group in report.folds if group not in wrong)
    error = invariance.change(_scaled(invariance, folds))
    dropped = [f"fold {group.name}: outputs change" for group in wrong]
    checks: list[RemovalCheck] = []
    failed = []
    for group in [g for g in (*report.symbols, *report.blocks) if removals and g.state == SEARCHABLE]:
        check = check_removal(model, given, group)
        checks.append(check)
        if check.outcome in ("mismatch", "shape", "ragged"):
            failed.append(group)
            dropped.append(f"channels {group.name}: {check.outcome}")
    proven = replace(
        report,
        folds=folds,
        symbols=tuple(g for g in report.symbols if g not in failed),
        blocks=tuple(g for g in report.blocks if g not in failed),
    )
    return Proof(proven, tuple(dropped), error, tuple(checks))


def _scaled(invariance: Invariance, groups: Sequence[FoldGroup]) -> list[tuple[FoldGroup, Tensor]]:
    return [(group, invariance.scales(group)) for group in groups]

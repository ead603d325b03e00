"""Verify a report: scale, permute and remove; halve what fails, and drop what fails alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from torch import Tensor, nn

from mtcore.errors import StateError
from mtcore.trace.bisect import failing
from mtcore.trace.channels import SEARCHABLE, SymGroup
from mtcore.trace.folds import FoldGroup
from mtcore.trace.inputs import InputMaker, TraceInputs, example_inputs
from mtcore.trace.invariance import Invariance
from mtcore.trace.permutation import PermutationCheck, permutable
from mtcore.trace.removal import RemovalCheck, Trial, check_removal
from mtcore.trace.report import TraceReport


@dataclass(frozen=True)
class Proof:
    """`report` without what failed; `dropped` says what that was, `error` is the change by all folds together."""

    report: TraceReport
    dropped: tuple[str, ...]
    error: float
    removals: tuple[RemovalCheck, ...] = ()
    permutations: tuple[PermutationCheck, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The whole proof as JSON-able values; `from_dict` gives it back."""
        return {
            "report": self.report.to_dict(),
            "dropped": list(self.dropped),
            "error": self.error,
            "removals": [{**asdict(check), "attributes": list(check.attributes)} for check in self.removals],
            "permutations": [asdict(check) for check in self.permutations],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Reads what `to_dict` made, also after JSON.

        Raises:
            StateError: the data are no proof, or its report is of another version.
        """
        try:
            return cls(
                TraceReport.from_dict(data["report"]),
                tuple(data["dropped"]),
                data["error"],
                tuple(
                    RemovalCheck(**{**check, "attributes": tuple(check["attributes"])})
                    for check in data["removals"]
                ),
                tuple(PermutationCheck(**check) for check in data["permutations"]),
            )
        except (KeyError, TypeError) as error:
            raise StateError(f"not a proof ({type(error).__name__}: {error}): verify the model again") from error


def verify(
    model: nn.Module,
    report: TraceReport,
    inputs: object = None,
    *,
    makers: Sequence[InputMaker] = (),
    removals: bool = False,
    advance: Callable[[], object] = lambda: None,
) -> Proof:
    """Scales every fold group at random, permutes the channels of every searchable group, and compares outputs.

    All groups at once; halves of them where the outputs change.

    Args:
        report: what `analyze` gave for this model.
        inputs: as for `recursive_trace`.
        removals: also remove channels of every searchable group from a copy; what is not equal is dropped.
        advance: called after each of the `proof_steps`.

    The model is not changed; copies of it are made, in double precision where it runs so.
    """
    given = example_inputs(model, makers) if inputs is None else TraceInputs.of(inputs)
    invariance = Invariance(model, given)
    wrong = failing(
        report.folds, lambda groups: invariance.change(_scaled(invariance, groups)) <= invariance.tolerance
    )
    folds = tuple(group for group in report.folds if group not in wrong)
    error = invariance.change(_scaled(invariance, folds))
    dropped = [f"fold {group.name}: outputs change" for group in wrong]
    advance()
    searchable = _searchable(report)
    permutations = _permutations(invariance, searchable)
    failed = [group for group, check in zip(searchable, permutations, strict=True) if check.outcome == "changed"]
    dropped += [f"channels {group.name}: outputs change with their order" for group in failed]
    advance()
    checks: list[RemovalCheck] = []
    trial = Trial.of(model, given) if removals else None
    for group in searchable if removals else ():
        check = check_removal(model, given, group, trial=trial)
        checks.append(check)
        if check.outcome in ("mismatch", "shape", "ragged") and group not in failed:
            failed.append(group)
            dropped.append(f"channels {group.name}: {check.outcome}")
        advance()
    proven = replace(
        report,
        folds=folds,
        symbols=tuple(g for g in report.symbols if g not in failed),
        blocks=tuple(g for g in report.blocks if g not in failed),
    )
    return Proof(proven, tuple(dropped), error, tuple(checks), tuple(permutations))


def proof_steps(report: TraceReport, *, removals: bool = False) -> int:
    """How often `verify` tells that it got on: after the folds, the permutations, and every removal."""
    return 2 + (len(_searchable(report)) if removals else 0)


def _searchable(report: TraceReport) -> list[SymGroup]:
    return [group for group in (*report.symbols, *report.blocks) if group.state == SEARCHABLE]


def _permutations(invariance: Invariance, groups: Sequence[SymGroup]) -> list[PermutationCheck]:
    """A check for every group, in their order."""
    errors: dict[int, float] = {}

    def unchanged(some: Sequence[SymGroup]) -> bool:
        error = invariance.change_by_order(some)
        errors.update((id(group), error) for group in some)
        return error <= invariance.tolerance

    wrong = {id(group) for group in failing([g for g in groups if permutable(g)], unchanged)}
    return [
        PermutationCheck(group.name, "changed" if id(group) in wrong else "ok", errors[id(group)])
        if id(group) in errors
        else PermutationCheck(group.name, "ragged")
        for group in groups
    ]


def _scaled(invariance: Invariance, groups: Sequence[FoldGroup]) -> list[tuple[FoldGroup, Tensor]]:
    return [(group, invariance.scales(group)) for group in groups]

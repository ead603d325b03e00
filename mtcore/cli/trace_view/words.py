"""Parts of a trace in words, the same in the tables and on the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mtcore.cli.trace_view.groups import DIVIDED, Group, Member
from mtcore.cli.trace_view.layers import together
from mtcore.plan.fold import fold_names, skeleton

if TYPE_CHECKING:
    from mtcore.flow import CheckpointTrace
    from mtcore.trace import AxisPin

_PLACE = re.compile(r"(?<!\.)\[[^\]]*\]$")


def members_in_words(group: Group, inside: Callable[[str], str] = str) -> str:
    """'norm.weight[0] → attn.{q.weight[1], k.weight[1]}'; for other kinds the members in their order.

    Args:
        inside: leaves out of a name what the reader knows.
    """

    def names(members: Sequence[Member]) -> str:
        return in_braces([f"{inside(member.name)}{member.place}" for member in members])

    up = [member for member in group.members if member.sign != DIVIDED]
    down = [member for member in group.members if member.sign == DIVIDED]
    return f"{names(up)} → {names(down)}" if down else names(up)


def in_braces(names: Sequence[str]) -> str:
    """Names in a row, those that follow each other in one parent written with it once.

    Example:
        >>> in_braces(["norm", "attn.q[0]", "attn.k[0]", "mlp.up"])
        'norm, attn.{q[0], k[0]}, mlp.up'
        >>> in_braces(["layers.[0-5].q.weight[0]", "layers.[0-5].k.weight[0]", "norm.weight[0]"])
        'layers.[0-5].{q.weight[0], k.weight[0]}, norm.weight[0]'
    """
    rows: list[tuple[str, list[str]]] = []
    for name in names:
        parent, dot, child = _PLACE.sub("", name).rpartition(".")
        if child in ("weight", "bias"):
            parent, dot, child = parent.rpartition(".")
        rest = name[len(parent) + len(dot) :]
        if rows and parent and rows[-1][0] == parent:
            rows[-1][1].append(rest)
        else:
            rows.append((parent, [rest]))
    return ", ".join(
        (f"{parent}." if parent else "") + (children[0] if len(children) == 1 else f"{{{', '.join(children)}}}")
        for parent, children in rows
    )


def summary(trace: CheckpointTrace) -> str:
    """What was found, in one sentence."""
    report = trace.report
    counts = {
        "modules called": len(report.called),
        "shared inputs": len(report.shared_inputs),
        "fold groups": len(report.folds),
        "channel groups": len(report.symbols),
        "block groups": len(report.blocks),
    }
    return f"{report.model}: " + ", ".join(f"{number:,} {what}" for what, number in counts.items())


def problems(trace: CheckpointTrace) -> list[tuple[str, str]]:
    """What went wrong or was left out, as (what, detail)."""
    report = trace.report
    found = [  # the innermost module; those around it fail with the same message
        ("failed", f"{same[0].module or 'the model'}: {same[0].message}")
        for same in together(report.failures, lambda failure: failure.message)
    ]
    found += [
        ("dropped", _counted(same)) for same in together(trace.proof.dropped if trace.proof else (), skeleton)
    ]
    found += [("rule error", f"{c.what} ({c.times} times); its operands are pinned") for c in report.rule_errors]
    found += [("unknown op", f"{c.what} ({c.times} times); its operands are pinned") for c in report.unknown_ops]
    found += [("not called", fold_names(same)) for same in together(report.uncalled, skeleton)]
    return found


def _counted(names: Sequence[str]) -> str:
    return fold_names(names) + (f" ({len(names)} times)" if len(names) > 1 else "")


def proof_in_words(trace: CheckpointTrace) -> str:
    """What was verified and how well it held; empty where nothing was."""
    if trace.proof is None:
        return ""
    proof, folds = trace.proof, len(trace.report.folds)
    text = f"verified: all {folds} fold groups scaled at random change the output by {proof.error:.1e}"
    if proof.permutations:
        same = sum(check.outcome == "ok" for check in proof.permutations)
        text += f"; in {same} of {len(proof.permutations)} groups channels may change places"
    held = sum(check.outcome.startswith("ok") for check in proof.removals)
    if proof.removals:
        text += f"; {held} of {len(proof.removals)} groups removed in part give the masked model"
    return f"{text}; {len(proof.dropped)} groups dropped"


def pin_in_words(pin: AxisPin) -> str:
    """Whether the scales of an axis are free, in one sentence; the way follows where one is pinned."""
    axes = ", ".join(map(str, pin.axes)) or "no axis (a single number)"
    where = f"{pin.parameter} axis {axes}"
    if not pin.pinned:
        return f"{where}: all {pin.size:,} scales are free"
    free = "" if pin.way else "; this one is free"
    return f"{where}: {pin.pinned:,} of {pin.size:,} scales are pinned; index {pin.index}{free or ':'}"

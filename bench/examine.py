"""Everything that is measured on one model: replay, groups, proofs of the groups, roles."""

from __future__ import annotations

import random
import resource
import time
from collections import Counter
from typing import Any, Protocol

import torch
from roles import roles
from torch import nn

from mtcore.trace import TraceInputs, recursive_trace
from mtcore.trace.analyzer import Analysis
from mtcore.trace.invariance import Invariance
from mtcore.trace.removal import Trial, check_removal
from mtcore.trace.structure import tensors_in

NOISE = {True: 1e-12, False: 1e-5}
"""By double precision or not: an effect below this drowns in rounding; such a group is untestable."""
SINGLY_S, REMOVAL_S = 8.0, 12.0
"""CPU seconds for folds one by one (the rest is proved together only) and for removals (the rest is not tried)."""
GOOD = ("ok", "ok+attributes")


class Model(Protocol):
    """What the benchmark needs of an architecture."""

    kind: str
    name: str

    def build(self) -> nn.Module: ...
    def inputs(self, model: nn.Module) -> dict[str, Any]: ...


def examine(arch: Model) -> dict[str, Any]:
    """The row of one architecture, ready for JSON."""
    model = arch.build()
    inputs = arch.inputs(model)
    with torch.no_grad():
        plain = tensors_in(model(**inputs))
        start = time.process_time()
        model(**inputs)
    row: dict[str, Any] = {"forward_s": time.process_time() - start}
    start = time.process_time()
    graphs = recursive_trace(model, inputs)
    row["record_s"] = time.process_time() - start
    replays = {graphs.name(m): graphs.replay(m).reason for m in graphs}
    row["root_replay"] = replays.get("", "no root graph")
    row["inexact"] = {name: why[:200] for name, why in replays.items() if why}
    row["graphs"] = len(replays)
    start = time.process_time()
    analysis = Analysis(model, inputs)
    row["analyze_s"] = time.process_time() - start
    report = analysis.report
    row["failures"] = [f"{f.module}: {f.message}"[:200] for f in report.failures]
    row["unknown"] = {c.what: c.times for c in report.unknown_ops}
    row["rule_errors"] = {c.what[:200]: c.times for c in report.rule_errors}
    with torch.no_grad():
        again = tensors_in(model(**inputs))
    row["unchanged"] = len(again) == len(plain) and all(map(torch.equal, again, plain))
    invariance = Invariance(model, TraceInputs.of(analysis.inputs))
    row["folds"] = folds(analysis, invariance)
    row["removal"] = removals(analysis)
    found = roles(model, inputs, report, invariance)
    row["roles"] = {r: [len(hit), len(hit) + len(missed)] for r, (hit, missed) in found.items() if hit or missed}
    row["missed"] = {role: missed[:4] for role, (_, missed) in found.items() if missed}
    row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return row


def folds(analysis: Analysis, invariance: Invariance) -> dict[str, Any]:
    """All fold groups at once; one by one under the strict rule, with a control, while the time lasts."""
    groups = list(analysis.report.folds)
    noise = NOISE[invariance.double]
    together = invariance.change([(group, invariance.scales(group)) for group in groups])
    random.Random(0).shuffle(groups)
    checks = []
    start = time.process_time()
    for group in groups:
        if time.process_time() - start > SINGLY_S:
            break
        checks.append(invariance.check(group))
    bad = [c for c in checks if not c.exact]
    return {
        "double": invariance.double,
        "groups": len(groups),
        "singly": len(checks),
        "exact": len(checks) - len(bad),
        "powered": sum(c.exact and c.powered for c in checks),
        "together": float(f"{together:.1e}"),
        "wrong": [
            f"{c.group[:200]} error {c.error:.1e} effect {c.effect:.1e} control {c.control:.1e}"
            for c in bad
            if c.effect > noise
        ],
        "untestable": sum(c.effect <= noise for c in bad),
    }


def removals(analysis: Analysis) -> dict[str, Any]:
    """A quarter of the channels (blocks) of every searchable group removed, compared with the masked model."""
    out: dict[str, Any] = {"problems": []}
    trial = Trial.of(analysis.model, analysis.inputs)
    for what, groups in (("channels", analysis.report.symbols), ("blocks", analysis.report.blocks)):
        counts = Counter(g.state for g in groups if g.state != "searchable")
        wanted = [g for g in groups if g.state == "searchable"]
        random.Random(0).shuffle(wanted)
        start = time.process_time()
        for i, group in enumerate(wanted):
            if time.process_time() - start > REMOVAL_S / 2:
                counts["not tried"] = len(wanted) - i
                break
            check = check_removal(analysis.model, analysis.inputs, group, trial=trial)
            counts[check.outcome] += 1
            if check.outcome not in (*GOOD, "single"):
                out["problems"].append(f"{what} {check.outcome} {str(group)[:160]} {check.error:.1e}")
        out[what] = dict(counts)
    out["problems"] = out["problems"][:4]
    return out

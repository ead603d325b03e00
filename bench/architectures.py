"""Benchmark: trace tiny instances of every architecture of transformers, one child process each.

    python bench/architectures.py --kinds causal_lm --json bench/results/architectures.json

Each child builds a model with random parameters, records and replays it, finds the groups and proves them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import resource
import statistics
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch
from shrink import KINDS, Architecture, architectures, example_inputs
from torch import nn

from mtcore.trace import TraceInputs, recursive_trace
from mtcore.trace.analyzer import Analysis
from mtcore.trace.invariance import Invariance
from mtcore.trace.removal import check_removal
from mtcore.trace.structure import tensors_in

NOISE = 1e-5
"""Effects below this drown in the rounding of a model that computes in float32; such a group is untestable."""


def examine(arch: Architecture) -> dict[str, Any]:
    """Everything measured on one architecture."""
    model = arch.build()
    inputs = example_inputs(arch, model)
    result: dict[str, Any] = {"stage": "forward"}
    with torch.no_grad():
        plain = tensors_in(model(**inputs))
        start = time.process_time()
        model(**inputs)
    result["forward_s"] = time.process_time() - start
    result["stage"] = "record"
    start = time.process_time()
    graphs = recursive_trace(model, inputs)
    result["record_s"] = time.process_time() - start
    replays = {graphs.name(m): graphs.replay(m).reason for m in graphs}
    result["root_replay"] = replays.get("", "no root graph")
    result["inexact"] = {name: why for name, why in replays.items() if why}
    result["graphs"] = len(replays)
    result["stage"] = "analyze"
    start = time.process_time()
    analysis = Analysis(model, inputs)
    result["analyze_s"] = time.process_time() - start
    report = analysis.report
    result["failures"] = [f"{f.module}: {f.message}" for f in report.failures]
    result["unknown"] = {c.what: c.times for c in report.unknown_ops}
    result["rule_errors"] = {c.what: c.times for c in report.rule_errors}
    result["uncalled"] = len(report.uncalled)
    with torch.no_grad():
        again = tensors_in(model(**inputs))
    result["unchanged"] = len(again) == len(plain) and all(map(torch.equal, again, plain))
    result["stage"] = "verify"
    result["folds"] = folds(analysis)
    result["stage"] = "remove"
    result["removal"] = removals(analysis)
    result["roles"] = roles(model, report)
    result["stage"] = "done"
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return result


def folds(analysis: Analysis) -> dict[str, Any]:
    """Every fold group under the strict rule, with its control."""
    invariance = Invariance(analysis.model, TraceInputs.of(analysis.inputs))
    checks = [invariance.check(group) for group in analysis.report.folds]
    together = invariance.change([(group, invariance.scales(group)) for group in analysis.report.folds])
    return {
        "double": invariance.double,
        "groups": len(checks),
        "exact": sum(c.exact for c in checks),
        "powered": sum(c.exact and c.powered for c in checks),
        "together": together,
        "wrong": [
            f"{c.group[:300]} error {c.error:.1e} effect {c.effect:.1e} control {c.control:.1e}"
            for c in checks
            if not c.exact and c.effect > NOISE
        ],
        "untestable": sum(not c.exact and c.effect <= NOISE for c in checks),
        "names": [str(g)[:200] for g in analysis.report.folds],
    }


def removals(analysis: Analysis) -> dict[str, Any]:
    """A quarter of the channels (blocks) of every searchable group removed, compared with the masked model."""
    out: dict[str, Any] = {"problems": []}
    for what, groups in (("channels", analysis.report.symbols), ("blocks", analysis.report.blocks)):
        counts = Counter(g.state for g in groups if g.state != "searchable")
        for group in groups:
            if group.state == "searchable":
                check = check_removal(analysis.model, analysis.inputs, group)
                counts[check.outcome] += 1
                if check.outcome not in ("ok", "ok+attributes", "single"):
                    out["problems"].append(f"{what} {check.outcome} {str(group)[:200]} {check.error:.1e}")
        out[what] = dict(counts)
    return out


ROLES = {
    "qkv_shared": [{"q_proj", "k_proj", "v_proj"}, {"query", "key", "value"}, {"q_lin", "k_lin", "v_lin"}],
    "gate_up_shared": [{"gate_proj", "up_proj"}, {"w1", "w3"}],
    "v_o": [("v_proj", "o_proj"), ("v_proj", "out_proj"), ("v_proj", "dense")],
    "up_down": [("up_proj", "down_proj")],
}


def roles(model: nn.Module, report: Any) -> dict[str, list[int]]:
    """[found, expected] by role; the names of siblings are the oracle, never used by the tracer."""
    called = {c.name for c in report.called}
    weights = {
        name for name, m in model.named_modules() if isinstance(m, nn.Linear) or "Conv1D" in type(m).__name__
    }
    parents: dict[str, set[str]] = {}
    for name in called & weights:
        parent, _, last = name.rpartition(".")
        parents.setdefault(parent, set()).add(last)
    shared = [set(group.modules) for group in report.shared_inputs]
    linked = [({s.parameter for s in g.up}, {s.parameter for s in g.down}) for g in report.folds]
    found: dict[str, list[int]] = {role: [0, 0] for role in ROLES}
    for parent, names in parents.items():
        for role, patterns in ROLES.items():
            for pattern in patterns:
                if not set(pattern) <= names:
                    continue
                full = [f"{parent}.{n}" for n in pattern]
                if isinstance(pattern, set):
                    ok = any(set(full) <= group for group in shared)
                else:
                    a, b = (f"{n}.weight" for n in full)
                    ok = any((a in up and b in down) or (b in up and a in down) for up, down in linked)
                found[role][0] += ok
                found[role][1] += 1
                break
    return found


def _child(arch: Architecture, pipe: Any, limit: int) -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    used = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime)
    resource.setrlimit(resource.RLIMIT_CPU, (used + limit, used + limit))
    try:
        pipe.send(examine(arch))
    except Exception as error:  # noqa: BLE001  whatever a model raises is its row in the table
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        pipe.send({"stage": "failed", "error": f"{type(error).__name__}: {str(error)[:300]} ({place})"})
    pipe.close()


def run_all(wanted: list[Architecture], limit: int, jobs: int) -> Iterator[dict[str, Any]]:
    """`examine` in forked children, `jobs` at a time; a dead or late child is a row too.

    One thread forks them all: a fork beside another thread can inherit a held lock.
    """
    fork = multiprocessing.get_context("fork")
    waiting, running = list(reversed(wanted)), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            arch = waiting.pop()
            ours, theirs = fork.Pipe(duplex=False)
            child = fork.Process(target=_child, args=(arch, theirs, limit), daemon=True)
            child.start()
            theirs.close()
            running[ours] = (arch, child, time.perf_counter())
        ready = connection.wait(list(running), timeout=0.2)
        for pipe in list(running):
            arch, child, start = running[pipe]
            seconds = time.perf_counter() - start
            if pipe in ready:
                try:
                    result = pipe.recv()
                except EOFError:
                    result = {
                        "stage": "failed",
                        "error": f"the child died, of its limit of {limit} s of CPU time or of a crash",
                    }
            elif seconds > 10 * limit:
                result = {"stage": "failed", "error": f"no answer after {seconds:.0f} s"}
            else:
                continue
            child.kill()
            child.join()
            pipe.close()
            del running[pipe]
            yield {"kind": arch.kind, "name": arch.name, "wall_s": seconds, **result}


def summary(rows: list[dict[str, Any]]) -> str:
    """The markdown table."""
    lines = ["| | " + " | ".join(KINDS) + " |", "|---|" + "---|" * len(KINDS)]
    table: dict[str, list[str]] = {}
    for kind in KINDS:
        mine = [r for r in rows if r["kind"] == kind]
        done = [r for r in mine if r["stage"] == "done"]
        groups = sum(r["folds"]["groups"] for r in done)
        exact = sum(r["folds"]["exact"] for r in done)
        graphs = sum(r["graphs"] for r in done)
        seconds = sorted(r["analyze_s"] for r in done) or [0.0]
        p90 = seconds[int(0.9 * (len(seconds) - 1))]
        cells = {
            "names": str(len(mine)),
            "built and run": str(len(done)),
            "root graph replays bit-exact": str(sum(not r["root_replay"] for r in done)),
            "all module graphs exact": f"{graphs - sum(len(r['inexact']) for r in done)}/{graphs}",
            "forward unchanged by tracing": str(sum(r["unchanged"] for r in done)),
            "fold groups exact": f"{exact}/{groups}",
            "of these powered": str(sum(r["folds"]["powered"] for r in done)),
            "untestable (effect at rounding level)": str(sum(r["folds"]["untestable"] for r in done)),
            "all groups exact (architectures)": f"{sum(not r['folds']['wrong'] for r in done)}/{len(done)}",
            "unknown operations": str(dict(sum((Counter(r["unknown"]) for r in done), Counter())) or "none"),
            "rule errors": str(dict(sum((Counter(r["rule_errors"]) for r in done), Counter())) or "none")[:300],
            "CPU seconds, median / p90": f"{statistics.median(seconds):.2f} / {p90:.2f}",
        }
        for what in ("channels", "blocks"):
            counts = sum((Counter(r["removal"][what]) for r in done), Counter())
            cells[f"{what} removed = masked"] = ", ".join(f"{k} {v}" for k, v in counts.most_common())
            good = sum(any(r["removal"][what].get(k) for k in ("ok", "ok+attributes")) for r in done)
            cells[f"architectures with {what} removed"] = str(good)
        for role in ROLES:
            pairs = [r["roles"][role] for r in done]
            cells[role] = f"{sum(p[0] for p in pairs)}/{sum(p[1] for p in pairs)}"
        for key, value in cells.items():
            table.setdefault(key, []).append(value)
    lines += [f"| {key} | " + " | ".join(values) + " |" for key, values in table.items()]
    missing = [f"- {r['kind']}/{r['name']}: {r.get('error', r['stage'])}" for r in rows if r["stage"] != "done"]
    wrong = [f"- {r['kind']}/{r['name']}: {w}" for r in rows if r["stage"] == "done" for w in r["folds"]["wrong"]]
    return "\n".join([*lines, "", "Not run:", *missing, "", "Groups that failed the strict rule:", *wrong])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--names", default="")
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    wanted = [a for a in architectures(tuple(options.kinds.split(","))) if re.search(options.names, a.name)]
    import transformers

    transformers.logging.set_verbosity_error()
    examine(next(a for a in architectures(("causal_lm",)) if a.name == "llama"))  # imports, once for all children
    rows = []
    for row in run_all(wanted, options.limit, options.jobs):
        rows.append(row)
        if options.json:  # after every row, so that an interrupted run leaves what it has
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(rows, indent=1))
        print(row["kind"], row["name"], row.get("error", row["stage"]), file=sys.stderr, flush=True)
    print(summary(rows))


if __name__ == "__main__":
    main()

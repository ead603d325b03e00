"""The markdown tables of the benchmark of architectures, made from its rows."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]
TITLES = {
    "causal_lm": "causal LM",
    "encoder": "encoders",
    "seq2seq": "encoder-decoder",
    "vision": "vision",
    "detection": "detection",
    "speech": "speech",
    "timm": "timm",
}
ROLES = {
    "qkv_shared": "q, k, v share an input",
    "gate_up_shared": "gate, up share an input",
    "v_o": "v → o folds (of those that numerically do)",
    "up_down": "up → down folds (of those that numerically do)",
    "mlp_dim": "width of an MLP is one group",
    "residual": "residual stream is one group",
}


def table(rows: list[Row]) -> str:
    """One column a kind, then what did not run and what failed, by name."""
    kinds = [k for k in TITLES if any(r["kind"] == k for r in rows)]
    lines = ["| | " + " | ".join(TITLES[k] for k in kinds) + " |", "|---|" + "---|" * len(kinds)]
    lines += [
        f"| {title} | " + " | ".join(cell([r for r in rows if r["kind"] == k]) for k in kinds) + " |"
        for title, cell in CELLS.items()
    ]
    return "\n".join([*lines, *_notes(rows)])


def _done(rows: list[Row]) -> list[Row]:
    return [r for r in rows if "error" not in r]


def _sum(rows: list[Row], *keys: str) -> int:
    total = 0
    for row in _done(rows):
        value: Any = row
        for key in keys:
            value = value[key]
        total += value if isinstance(value, int) else len(value)
    return total


def _graphs(rows: list[Row]) -> str:
    return f"{_sum(rows, 'graphs') - _sum(rows, 'inexact')} of {_sum(rows, 'graphs')}"


def _exact(rows: list[Row]) -> str:
    return f"{_sum(rows, 'folds', 'exact')} of {_sum(rows, 'folds', 'singly')}"


def _all_exact(rows: list[Row]) -> str:
    done = _done(rows)
    good = [r for r in done if not r["folds"]["wrong"] and not r["folds"]["untestable"]]
    return f"{len(good)} of {len(done)}"


def _together(rows: list[Row]) -> str:
    return f"{max((r['folds']['together'] for r in _done(rows)), default=0.0):.0e}"


def _removed(what: str) -> Callable[[list[Row]], str]:
    def cell(rows: list[Row]) -> str:
        counts: Counter[str] = Counter()
        for row in _done(rows):
            counts.update(row["removal"][what])
        good = counts["ok"] + counts["ok+attributes"]
        return f"{good} of {good + counts['shape'] + counts['ragged'] + counts['mismatch']}"

    return cell


def _outcome(what: str, *outcomes: str) -> Callable[[list[Row]], str]:
    def cell(rows: list[Row]) -> str:
        return str(sum(r["removal"][what].get(o, 0) for r in _done(rows) for o in outcomes))

    return cell


def _with_blocks(rows: list[Row]) -> str:
    return str(sum(any(r["removal"]["blocks"].get(k) for k in ("ok", "ok+attributes")) for r in _done(rows)))


def _mismatches(rows: list[Row]) -> str:
    return str(sum(r["removal"][w].get("mismatch", 0) for r in _done(rows) for w in ("channels", "blocks")))


def _role(role: str) -> Callable[[list[Row]], str]:
    def cell(rows: list[Row]) -> str:
        pairs = [r["roles"][role] for r in _done(rows) if role in r["roles"]]
        return f"{sum(p[0] for p in pairs)} of {sum(p[1] for p in pairs)}"

    return cell


def _seconds(rows: list[Row]) -> str:
    seconds = sorted(r["analyze_s"] for r in _done(rows))
    if not seconds:
        return "none"
    return f"{statistics.median(seconds):.2f} / {seconds[int(0.9 * (len(seconds) - 1))]:.2f}"


CELLS: dict[str, Callable[[list[Row]], str]] = {
    "names": lambda rows: str(len(rows)),
    "built and run": lambda rows: str(len(_done(rows))),
    "root graph replays bit-exact": lambda rows: str(sum(not r["root_replay"] for r in _done(rows))),
    "graphs of all modules exact": _graphs,
    "forward unchanged by tracing": lambda rows: str(sum(r["unchanged"] for r in _done(rows))),
    "fold groups": lambda rows: str(_sum(rows, "folds", "groups")),
    "exact, one by one": _exact,
    "of these powered": lambda rows: str(_sum(rows, "folds", "powered")),
    "largest change by all folds of a model": _together,
    "architectures with all groups exact": _all_exact,
    "wrong fold groups": lambda rows: str(_sum(rows, "folds", "wrong")),
    "untestable fold groups": lambda rows: str(_sum(rows, "folds", "untestable")),
    "channel groups removed = masked model": _removed("channels"),
    "blocks removed = masked model": _removed("blocks"),
    "not tried": lambda rows: f"{_outcome('channels', 'not tried')(rows)}, {_outcome('blocks', 'not tried')(rows)}",
    "architectures with verified blocks": _with_blocks,
    "wrong removals": _mismatches,
    **{title: _role(role) for role, title in ROLES.items()},
    "unknown operations, rule errors": lambda rows: f"{_sum(rows, 'unknown')}, {_sum(rows, 'rule_errors')}",
    "CPU seconds of `analyze`, median / p90": _seconds,
}


def _notes(rows: list[Row]) -> list[str]:
    notes = {
        "Not run": [f"{_name(r)}: {r['error']}" for r in rows if "error" in r],
        "Root graphs that do not replay": [
            f"{_name(r)}: {r['root_replay']}" for r in _done(rows) if r["root_replay"]
        ],
        "Wrong or untestable folds": [
            f"{_name(r)}: {w}"
            for r in _done(rows)
            for w in (*r["folds"]["wrong"], *["untestable"] * r["folds"]["untestable"])
        ],
        "Unknown operations and rule errors": [
            f"{_name(r)}: {what}" for r in _done(rows) for what in (*r["unknown"], *r["rule_errors"])
        ],
        "Removals that are not equal": [f"{_name(r)}: {p}" for r in _done(rows) for p in r["removal"]["problems"]],
        "Roles that were missed": [f"{_name(r)}: {r['missed']}" for r in _done(rows) if r["missed"]],
    }
    return [
        line for title, items in notes.items() if items for line in ("", f"{title}:", *(f"- {i}" for i in items))
    ]


def _name(row: Row) -> str:
    return f"{row['kind']}/{row['name']}"

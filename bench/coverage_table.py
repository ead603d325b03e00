"""The page of the benchmark of coverage, made from its rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]
TOOLS = {"ours": "mtcore", "modelopt": "nvidia-modelopt", "llmcompressor": "llmcompressor"}
RECIPES = {"fp8": "FP8", "nvfp4": "NVFP4", "int4": "INT4 weights", "int8": "INT8 weights"}
CLIENTS = {"transformers": "logits equal in transformers", "mtopt_hf": "logits equal with `mtopt_hf.quantizer`"}


def page(rows: Sequence[Row]) -> str:
    """One column a tool and recipe, then what fell short, by cause."""
    columns = [(t, r) for t in TOOLS for r in RECIPES if any((x["tool"], x["recipe"]) == (t, r) for x in rows)]
    of = {column: [x for x in rows if (x["tool"], x["recipe"]) == column] for column in columns}
    lines = [
        "| | " + " | ".join(f"{TOOLS[t]} {RECIPES[r]}" for t, r in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for title, cell in CELLS.items():
        lines.append(f"| {title} | " + " | ".join(cell(of[column]) for column in columns) + " |")
    for column in columns:
        lines += _causes(f"{TOOLS[column[0]]} {RECIPES[column[1]]}", of[column])
    return "\n".join(lines)


def exported(row: Row) -> bool:
    return row["step"] == "exported"


def complete(row: Row) -> bool:
    """Every weight has codes or is named."""
    return exported(row) and not row["silent"]


def _count(test: Callable[[Row], bool]) -> Callable[[list[Row]], str]:
    return lambda rows: str(sum(map(test, rows)))


def _share(part: str) -> Callable[[list[Row]], str]:
    def cell(rows: list[Row]) -> str:
        done = [r for r in rows if exported(r)]
        return f"{sum(r[part] for r in done) / max(1, sum(r['weights'] for r in done)):.1%}"

    return cell


def _opens(client: str) -> Callable[[list[Row]], str]:
    def cell(rows: list[Row]) -> str:
        asked = [r[client]["result"] for r in rows if client in r]
        return str(asked.count("equal")) if asked else "-"

    return cell


def _all(rows: list[Row]) -> str:
    return str(sum(complete(r) and any(r.get(c, {}).get("result") == "equal" for c in CLIENTS) for r in rows))


CELLS: dict[str, Callable[[list[Row]], str]] = {
    "architectures": lambda rows: str(len(rows)),
    "built": _count(lambda r: r["step"] in ("built", "exported")),
    "quantized and exported": _count(exported),
    "of these, no weight left out without a word": _count(complete),
    "weights with codes": _share("coded"),
    "weights left out by name": _share("named"),
    "weights left out silently": _share("silent"),
    **{title: _opens(client) for client, title in CLIENTS.items()},
    "all of this, with one of the two": _all,
}


def _causes(title: str, rows: list[Row]) -> list[str]:
    """What kept rows from the end, grouped by message."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if not exported(row):
            found[f"{row['step']}: {_short(row.get('why', ''))}"].append(row["name"])
        elif row["silent"]:
            found["weights left out silently"].append(row["name"])
        for client in CLIENTS:
            result = row.get(client, {"result": "equal"})
            if result["result"] != "equal":
                found[f"{client} {result['result']}: {_short(result.get('why', ''))}"].append(row["name"])
    if not found:
        return []
    lines = [f"- {len(names)}: {cause} ({_some(names)})" for cause, names in sorted(found.items(), key=_by_size)]
    return ["", f"### {title}: what fell short", "", *lines]


def reasons(rows: Sequence[Row]) -> dict[str, int]:
    """Elements of matrices by what our plans say about them, over all rows."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(row.get("plan", {}))
    return dict(counts.most_common())


def _by_size(item: tuple[str, list[str]]) -> tuple[int, str]:
    return -len(item[1]), item[0]


def _short(why: str) -> str:
    return why[:160].replace("|", "\\|")


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")

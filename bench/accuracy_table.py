"""The tables of accuracy measurements: one a format, best first, ours and other tools' side by side.

    python bench/accuracy_table.py RESULTS.json … --into docs/reference/accuracy.md --part NAME

Results of one model, text and machine, from any number of processes and tools, make one part. `--summary` gives one
row a format instead: the preset, the best of ours and of other tools. `--into` replaces what stands between the two
marks of that part in a file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accuracy_setup import GOALS

Row = Mapping[str, Any]
MARKS = ("<!-- {part}, by bench/accuracy_table.py -->\n", "<!-- end of {part} -->\n")
SAME = ("model", "machine", "torch", "evaluation_chunks", "calibration_chunks")


def merged(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Results of one subject as one: all rows, the most processes at once, and the least time of a plain forward.

    Of rows with one label that with the fewest processes at once counts, of these the first that was measured;
    failed ones are dropped where another was.

    Raises:
        ValueError: they are not of one model, machine and text.
    """
    first = results[0]
    for one in results:
        other = [name for name in SAME if one[name] != first[name]]
        if other or abs(one["perplexity"] / first["perplexity"] - 1) > 1e-3:
            raise ValueError(f"results of different subjects cannot be compared: {other or ['perplexity']}")
    rows: dict[tuple[str, ...], Row] = {}
    for one in results:
        for row in ({"beside": one["processes"], **row} for row in one["rows"]):
            known = rows.get(label_of(row))
            if known is None or (row["ratio"] is not None, -row["beside"]) > (
                known["ratio"] is not None,
                -known["beside"],
            ):
                rows[label_of(row)] = row
    return {
        **first,
        "plain_forward_s": min(one["plain_forward_s"] for one in results),
        "processes": max(one["processes"] for one in results),
        "rows": list(rows.values()),
    }


def label_of(row: Row) -> tuple[str, ...]:
    return row["tool"], row["format"], row["algorithm"]


def without(facts: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The results without the rows that others hold too, whatever the preset is called that made them."""
    known = {(tool, fmt, what.rpartition("`: ")[2]) for tool, fmt, what in map(label_of, other["rows"])}
    return {**facts, "rows": [row for row in facts["rows"] if label_of(row) not in known]}


def markdown(facts: Mapping[str, Any]) -> str:
    """What was measured and on which machine, then a table for each format."""
    other = facts["other_perplexity"]
    parts = [
        f"{facts['model']}, computed in fp32 (torch {facts['torch']}): perplexity {facts['perplexity']:.3f} on "
        f"{facts['evaluation_chunks']} chunks of 512 tokens"
        + (f", {other:.3f} on as many of the other text" if other else "")
        + f"; calibrated on {facts['calibration_chunks']} chunks, whose plain forward takes "
        f"{facts['plain_forward_s']:.2f} s on {facts['machine']}."
    ]
    if facts["processes"] > 1:
        parts.append(
            f" {facts['processes']} processes shared the machine where a time is marked ≤: an upper bound."
        )
    parts.append("\n")
    for name, goal in GOALS.items():
        own = [row for row in facts["rows"] if row["format"] == name]
        if not own:
            continue
        aim = f" (aim: at most {goal:.3f})" if facts["model"].startswith("gemma") else ""
        own.sort(key=lambda row: (row["ratio"] is None, row["ratio"]))
        parts.append(
            f"\n### {name}{aim}\n\n"
            "| tool | algorithm | perplexity ratio | on other text | seconds | times the plain forward |\n"
            "|---|---|---|---|---|---|\n"
        )
        parts += [_row(row, facts["plain_forward_s"]) for row in own]
    return "".join(parts)


def _row(row: Row, plain: float) -> str:
    if row["ratio"] is None:
        return f"| {row['tool']} | {row['algorithm']} | {row['error'].replace('|', '/')} | | | |\n"
    other = "" if row["other_ratio"] is None else f"{row['other_ratio']:.4f}" if row["other_ratio"] < 100 else ""
    ratio = f"{row['ratio']:.4f}" if row["ratio"] < 100 else f"{row['ratio']:.1g}"
    bound = "≤ " if row["beside"] > 1 else ""
    cells = (row["tool"], row["algorithm"], ratio, other, f"{bound}{row['seconds']:.1f}")
    return f"| {' | '.join(cells)} | {bound}{row['seconds'] / plain:.1f} |\n"


def summary(facts: Mapping[str, Any]) -> str:
    """A row a format; ratios on the calibration's kind of text and on the other. Best is the least larger one."""
    parts = [
        "| format | preset | its ratios | times the plain forward | goal | our best | other tools' best |\n"
        "|---|---|---|---|---|---|---|\n"
    ]
    for name, goal in GOALS.items():
        rows = [row for row in facts["rows"] if row["format"] == name and row["ratio"] is not None]
        own = [row for row in rows if row["tool"] == "mtcore"]
        (preset,) = (row for row in own if row["algorithm"].startswith("`"))
        best, peer = (min(part, key=_larger) for part in (own, [row for row in rows if row["tool"] != "mtcore"]))
        bound = "≤ " if preset["beside"] > 1 else ""
        reached = "reached" if preset["ratio"] <= goal else "missed"
        cells = (
            name,
            preset["algorithm"].partition(":")[0],
            _ratios(preset),
            f"{bound}{preset['seconds'] / facts['plain_forward_s']:.0f}",
            f"{goal:.3f}, {reached}",
            "the preset" if best is preset else f"{_ratios(best)} {best['algorithm'].rpartition('`: ')[2]}",
            f"{_ratios(peer)} {peer['tool'].partition(' ')[0]} {peer['algorithm']}",
        )
        parts.append(f"| {' | '.join(cells)} |\n")
    return "".join(parts)


def _larger(row: Row) -> float:
    return max(row["ratio"], row["other_ratio"] or row["ratio"])


def _ratios(row: Row) -> str:
    return f"{row['ratio']:.3f}, {row['other_ratio']:.3f}"


def replace_between(path: Path, part: str, text: str) -> None:
    """Put the text between the marks of a part of a file."""
    marks = [mark.format(part=part) for mark in MARKS]
    whole = path.read_text()
    before, begin, rest = whole.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise SystemExit(f"{path}: it lacks the marks {marks}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--summary", action="store_true", help="one row a format")
    parser.add_argument("--without", type=Path, help="leave out the rows that these results hold")
    parser.add_argument(
        "--into", type=Path, help="file whose marked part the tables replace; else they are printed"
    )
    parser.add_argument("--part", default="figures", help="which marks: <!-- PART, by bench/accuracy_table.py -->")
    parser.add_argument("--merge", type=Path, help="write all results as one file")
    options = parser.parse_args()
    whole = merged([json.loads(path.read_text()) for path in options.results])
    if options.merge:
        options.merge.write_text(json.dumps(whole, indent=1) + "\n")
    if options.without:
        whole = without(whole, json.loads(options.without.read_text()))
    text = summary(whole) if options.summary else markdown(whole)
    if options.into:
        replace_between(options.into, options.part, text)
    else:
        print(text)


if __name__ == "__main__":
    main()

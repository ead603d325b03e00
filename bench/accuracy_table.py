"""The tables of accuracy measurements: one a format, best first, ours and other tools' side by side.

    python bench/accuracy_table.py RESULTS.json … --into docs/reference/accuracy.md

Results of one model, text and machine, from any number of processes and tools, make one part. `--into` replaces
what stands between the two marks in a file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accuracy_setup import GOALS

MARKS = ("<!-- figures, by bench/accuracy_table.py -->\n", "<!-- end of figures -->\n")
SAME = ("model", "machine", "torch", "evaluation_chunks", "calibration_chunks")


def merged(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Results of one subject as one: all rows, the most processes at once, and the least time of a plain forward.

    Of rows with one label the first that was measured counts; failed ones are dropped where another was.

    Raises:
        ValueError: they are not of one model, machine and text.
    """
    first = results[0]
    for one in results:
        other = [name for name in SAME if one[name] != first[name]]
        if other or abs(one["perplexity"] / first["perplexity"] - 1) > 1e-3:
            raise ValueError(f"results of different subjects cannot be compared: {other or ['perplexity']}")
    rows: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for row in (row for one in results for row in one["rows"]):
        label = (row["tool"], row["format"], row["algorithm"])
        if label not in rows or rows[label]["ratio"] is None:
            rows[label] = row
    return {
        **first,
        "plain_forward_s": min(one["plain_forward_s"] for one in results),
        "processes": max(one["processes"] for one in results),
        "rows": list(rows.values()),
    }


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
        parts.append(f" {facts['processes']} processes shared the machine, so times are upper bounds.")
    parts.append("\n")
    for name, goal in GOALS.items():
        own = [row for row in facts["rows"] if row["format"] == name]
        if not own:
            continue
        aim = f" (aim: at most {goal:.3f})" if facts["model"].startswith("gemma") else ""
        own.sort(key=lambda row: (row["ratio"] is None, row["ratio"]))
        parts.append(
            f"\n### {name}{aim}\n\n"
            "| tool | algorithm | perplexity ratio | on other text | seconds | over the plain forward |\n"
            "|---|---|---|---|---|---|\n"
        )
        parts += [_row(row, facts["plain_forward_s"]) for row in own]
    return "".join(parts)


def _row(row: Mapping[str, Any], plain: float) -> str:
    if row["ratio"] is None:
        return f"| {row['tool']} | {row['algorithm']} | {row['error'].replace('|', '/')} | | | |\n"
    other = "" if row["other_ratio"] is None else f"{row['other_ratio']:.4f}" if row["other_ratio"] < 100 else ""
    ratio = f"{row['ratio']:.4f}" if row["ratio"] < 100 else f"{row['ratio']:.1g}"
    cells = (row["tool"], row["algorithm"], ratio, other, f"{row['seconds']:.1f}")
    return f"| {' | '.join(cells)} | {row['seconds'] / plain:.1f} |\n"


def replace_between(path: Path, text: str) -> None:
    """Put the text between the marks of a file."""
    whole = path.read_text()
    before, begin, rest = whole.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not begin or not end:
        raise SystemExit(f"{path}: it lacks the marks {MARKS}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--into", type=Path)
    parser.add_argument("--merge", type=Path, help="write all results as one file")
    options = parser.parse_args()
    whole = merged([json.loads(path.read_text()) for path in options.results])
    if options.merge:
        options.merge.write_text(json.dumps(whole, indent=1) + "\n")
    if options.into:
        replace_between(options.into, markdown(whole))
    else:
        print(markdown(whole))


if __name__ == "__main__":
    main()

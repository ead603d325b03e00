"""The markdown table of accuracy measurements: one table a format, best first.

python bench/accuracy_table.py bench/results/accuracy_gemma3_270m_h200.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def markdown(facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """What was measured and on which machine, then a table for each format.

    Args:
        facts: model, machine, torch, perplexity, plain_forward_s, evaluation_chunks, calibration_chunks.
        rows: tool, format, algorithm, goal, ratio (None where it failed), seconds, forwards, error.
    """
    parts = [
        f"{facts['model']}, computed in fp32: perplexity {facts['perplexity']:.3f} on {facts['evaluation_chunks']} "
        f"chunks of 512 tokens; calibrated on {facts['calibration_chunks']} chunks, whose plain forward takes "
        f"{facts['plain_forward_s']:.2f} s on {facts['machine']} (torch {facts['torch']}).\n"
    ]
    for name in dict.fromkeys(row["format"] for row in rows):
        own = [row for row in rows if row["format"] == name]
        own.sort(key=lambda row: (row["ratio"] is None, row["ratio"]))
        parts.append(
            f"\n### {name} (aim: at most {own[0]['goal']:.3f})\n\n"
            "| tool | algorithm | perplexity ratio | on other text | seconds | over the plain forward |\n"
            "|---|---|---|---|---|---|\n"
        )
        parts += [_row(row) for row in own]
    return "".join(parts)


def _row(row: Mapping[str, Any]) -> str:
    if row["ratio"] is None:
        return f"| {row['tool']} | {row['algorithm']} | {row['error'].replace('|', '/')} | | | |\n"
    other = "" if row["other_ratio"] is None else f"{row['other_ratio']:.4f}"
    cells = (row["tool"], row["algorithm"], f"{row['ratio']:.4f}", other, f"{row['seconds']:.1f}")
    return f"| {' | '.join(cells)} | {row['forwards']:.1f} |\n"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        found = json.loads(Path(name).read_text())
        print(markdown(found, found["rows"]))

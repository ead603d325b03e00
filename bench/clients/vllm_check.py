"""Whether vLLM computes from our checkpoints what our quantized models compute: log-probabilities of prompts.

    python bench/clients/vllm_write.py DIRECTORY                          # where mtcore is
    python bench/clients/vllm_check.py serve DIRECTORY --json RESULT.json # by vLLM: --python VENV/bin/python
    python bench/clients/vllm_check.py judge DIRECTORY --json RESULT.json # again, from the answers that lie there
    python bench/clients/vllm_check.py table --json RESULT.json

It serves every checkpoint in every dtype that is asked for; rows that are in RESULT.json already are replaced,
others kept. Several processes serve; one that dies is started again with what is left. agreement.py judges.

Each row also has what `mtopt lint --client vllm` said before. A row is explained where vLLM agrees and lint said
that it will load, where vLLM refuses and lint said so, and where a cause in vllm_causes.py holds for this device.
All steps exit with 1 where anything is unexplained.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from agreement import judged, last_error
from vllm_cases import CASES
from vllm_causes import cause_of

DTYPES = ("bfloat16", "float16", "float32")
MODELS = ("trained, GQA", "dense", "tied, GQA", "MoE", "Gemma-3-270M")
"""Columns of the tables; other models answer single questions, and stand below."""
Task = tuple[str, Path]
"""A dtype and a checkpoint's folder."""


def serve(folders: list[Path], dtypes: list[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for every checkpoint and dtype."""
    paths = sorted(path for folder in folders for path in folder.glob("*/reference.json"))
    found = {path.parent: json.loads(path.read_text()) for path in paths}
    found = {path: facts for path, facts in found.items() if options.only in f"{facts['model']}, {facts['format']}"}
    if options.step == "judge":
        asked = [(dtype, path) for path, facts in found.items() for dtype in dtypes]
        return [
            judge(task[1], found[task[1]], task[0])
            for task in asked
            if answer(task).exists() or "why" in found[task[1]]
        ]
    tasks = [(dtype, path) for dtype in dtypes for path, facts in found.items() if "why" not in facts]
    for task in tasks:
        answer(task).unlink(missing_ok=True)
    _serve_all(tasks, options)
    return [judge(path, facts, dtype) for path, facts in found.items() for dtype in dtypes]


def answer(task: Task) -> Path:
    """Where what vLLM said of a task is found."""
    return task[1] / f"answer.{task[0]}.json"


def _serve_all(tasks: list[Task], options: argparse.Namespace) -> None:
    deadline = time.monotonic() + options.limit
    shares = [tasks[first :: options.processes] for first in range(options.processes)]
    running = [(start(share, options.python), share) for share in shares if share]
    while running and time.monotonic() < deadline:
        process, share = running.pop(0)
        if process.poll() is None:
            running.append((process, share))
            time.sleep(0.2)
            continue
        left = [task for task in share if not answer(task).exists()]
        if left:  # the first of them killed it
            log = (share[0][1] / "serve.log").read_text(errors="replace")
            why = last_error(log) if log else f"the server ended with {process.returncode}"
            answer(left[0]).write_text(json.dumps({"why": why}))
            if left[1:]:
                running.append((start(left[1:], options.python), left[1:]))
    for process, _ in running:
        process.kill()


def start(share: list[Task], python: str) -> subprocess.Popen[bytes]:
    """A process that serves some checkpoints, one after the other."""
    with (share[0][1] / "serve.log").open("wb") as log:
        tasks = [f"{dtype}:{path}" for dtype, path in share]
        command = [python, str(Path(__file__).with_name("vllm_serve.py")), *tasks]
        environment = dict(os.environ) if python == sys.executable else clean_environment()
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def clean_environment() -> dict[str, str]:
    """Ours without the paths that point to our own packages."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def judge(path: Path, facts: dict[str, Any], dtype: str) -> dict[str, Any]:
    """One row; `unexplained` names what nobody foresaw."""
    row: dict[str, Any] = {"model": facts["model"], "format": facts["format"], "dtype": dtype}
    if "why" in facts:
        return {**row, "result": "not written", "why": facts["why"]}
    row["lint"] = facts["lint"]
    file = answer((dtype, path))
    said = json.loads(file.read_text()) if file.exists() else {"why": "no time"}
    row["device"] = said.get("device", "")
    if "why" in said:
        return {**row, "result": "not served", "why": said["why"], "at": said.get("at", [])}
    return judged(row, said["served"], facts, said["device"])


def unexplained(row: dict[str, Any]) -> str:
    """What is wrong with a row, or nothing."""
    if row["result"] == "not written":
        return ""
    loads = row["lint"]["loads"]
    if row["result"].startswith("agrees"):
        return "" if loads else f"lint says no: {'; '.join(row['lint']['says'].values())}"
    if not loads or cause_of(row):
        return ""
    return f"{row['result']}: {row.get('why', row.get('distance'))}"


def table(rows: list[dict[str, Any]]) -> str:
    """A table for each dtype, one row a format and one column a model, then what was not served and why."""
    lines: list[str] = []
    for dtype in [one for one in DTYPES if any(row["dtype"] == one for row in rows)]:
        of = {(row["format"], row["model"]): row for row in rows if row["dtype"] == dtype}
        models = [model for model in MODELS if any(key[1] == model for key in of)]
        lines += ["", f"Served in {dtype}:", "", "| format | " + " | ".join(models) + " |"]
        lines += ["|---|" + "---|" * len(models)]
        for form in CASES:
            found = [of[form, model] for model in models if (form, model) in of]
            if any("distance" in row for row in found) or (found and dtype == DTYPES[0]):
                lines.append(f"| {form} | " + " | ".join(_cell(of.get((form, model))) for model in models) + " |")
        lines += ["", *(f"- {f}, {m}: {_cell(row)}" for (f, m), row in of.items() if m not in models)]
    return "\n".join([*lines, "", *reasons(rows)])


def reasons(rows: list[dict[str, Any]]) -> list[str]:
    """Why rows do not agree: vLLM's cause, or its words and where it said them, and lint's rules of before."""
    whys: dict[str, list[str]] = {}
    for row in rows:
        if not row["result"].startswith("agrees"):
            said = [rule.split()[-1] for rule in row.get("lint", {}).get("says", {})]
            place = [f"`{at}`" for at in row.get("at", [])[:1] if not cause_of(row)]
            why = cause_of(row) or row.get("why", row["result"]).partition("\n")[0]
            text = why + "".join(f"; {one}" for one in [*place, *(f"lint: `{rule}`" for rule in said)])
            whys.setdefault(text, []).append(f"{row['format']} on {row['model']}, {row['dtype']}")
    return [f"- {'; '.join(_shortened(places))}: {text}" for text, places in whys.items()]


def _shortened(places: list[str]) -> list[str]:
    return places if len(places) < 5 else [*places[:3], f"{len(places) - 3} more"]


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    if "distance" not in row:
        return row["result"]
    shown = f"{row['distance']:.2g} / {row['precision']:.2g} ({row['to_unquantized']:.2g})"
    weak = "" if row["tells"] else "~"
    if "computes" in row:
        shown += f"; recipe {row['recipe_distance']:.2g} / {row['recipe_precision']:.2g}"
    return f"{row['result']}{weak}: {shown}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["serve", "judge", "table"])
    parser.add_argument("folders", type=Path, nargs="*", help="what vllm_write.py wrote")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environment that has vLLM")
    parser.add_argument("--dtypes", default="bfloat16", help="of " + ", ".join(DTYPES))
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--only", default="", help="rows with this in 'model, format'")
    parser.add_argument("--limit", type=float, default=400.0, help="seconds")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    known = [json.loads(x) for x in options.json.read_text().splitlines()] if options.json.exists() else []
    rows = {(row["dtype"], row["model"], row["format"]): row for row in known}
    if options.step != "table":
        for row in serve(options.folders, options.dtypes.split(","), options):
            rows[row["dtype"], row["model"], row["format"]] = row
        options.json.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows.values()))
    print(table(list(rows.values())))
    wrong = {key: why for key, row in rows.items() if (why := unexplained(row))}
    for key, why in wrong.items():
        print("UNEXPLAINED", *key, why, file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

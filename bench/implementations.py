"""Benchmark: the groups do not depend on the kernels. Every causal language model, tiny, with each implementation.

    python bench/implementations.py --json bench/results/implementations.json --resume

Attention is eager or sdpa, experts are eager, batched_mm or grouped_mm, as far as a model accepts them; the fold
groups and the groups of channels of `analyze` are compared with those of eager. One JSON row an architecture.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mtcore.trace import TraceReport, analyze

ATTENTION = ("eager", "sdpa")
EXPERTS = ("eager", "batched_mm", "grouped_mm")


def compare(model: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
    """By implementation: "same", or the groups that only one side has, or why the model does not take it."""
    has_experts = any("experts" in name for name, _ in model.named_parameters())
    row: dict[str, Any] = {}
    reset(model, has_experts)
    first = groups(analyze(model, inputs))
    for kind, names in (("attention", ATTENTION), ("experts", EXPERTS if has_experts else ())):
        for name in names[1:]:
            reset(model, has_experts)
            refused = choose(setter(model, kind), name)
            if refused:
                row[name] = refused
                continue
            report = analyze(model, inputs)
            if report.failures:
                row[name] = f"does not run: {report.failures[0].message[:120]}"
                continue
            only = sorted(str(g)[:300] for g in first ^ groups(report))
            row[name] = [*only[:4], f"{len(only)} groups differ"] if only else "same"
    return row


def groups(report: TraceReport) -> set[Any]:
    """All groups of a report without their order and names."""
    folds = {("fold", frozenset(g.up), frozenset(g.down)) for g in report.folds}
    return folds | {("channels", g.state, frozenset(g.members)) for g in (*report.symbols, *report.blocks)}


def setter(model: nn.Module, kind: str) -> Callable[[str], Any] | None:
    return getattr(model, "set_attn_implementation" if kind == "attention" else "set_experts_implementation", None)


def reset(model: nn.Module, has_experts: bool) -> None:
    choose(setter(model, "attention"), "eager")
    if has_experts:
        choose(setter(model, "experts"), "eager")


def choose(set_it: Callable[[str], Any] | None, name: str) -> str:
    """Why the model does not take an implementation, or nothing."""
    if set_it is None:
        return "no such switch"
    try:
        set_it(name)
    except (ValueError, KeyError, ImportError, AttributeError) as error:
        return f"refused: {' '.join(str(error).split())[:120]}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", default="", help="a regular expression")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--resume", action="store_true", help="keep the rows of the JSON, run only the others")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    import transformers
    from shrink import architectures

    transformers.logging.set_verbosity_error()
    kept = options.resume and options.json.exists()
    rows = [json.loads(x) for x in options.json.read_text().splitlines()] if kept else []
    known = {r["name"] for r in rows}
    for arch in architectures(("causal_lm",)):
        if arch.name in known or not re.search(options.names, arch.name):
            continue
        try:
            model = arch.build()
            row = {"name": arch.name, **compare(model, arch.inputs(model))}
        except Exception as error:  # noqa: BLE001  whatever a model raises is its row
            row = {"name": arch.name, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"}
        rows.append(row)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text("".join(json.dumps(r) + "\n" for r in rows))
    for name in (*ATTENTION[1:], *EXPERTS[1:]):
        found = [r.get(name) for r in rows if name in r]
        print(f"{name}: same {found.count('same')}, differ {sum(isinstance(f, list) for f in found)},", end=" ")
        print(f"not taken {sum(isinstance(f, str) and f != 'same' for f in found)}")
    print(f"not built: {sum('error' in r for r in rows)}", file=sys.stderr)


if __name__ == "__main__":
    main()

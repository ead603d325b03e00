"""Benchmark: does the engine miss a rescaling? Its fold groups against the null space of the derivatives.

    python bench/recall.py --json bench/results/recall.json
    python bench/recall.py --json bench/results/recall.json --table

Of a tiny instance of an architecture the scales of one layer (the last of each stack) and of what is outside of the
layers are free; `scale_symmetry` finds every rescaling that keeps the outputs. The fold groups of `analyze`
must span them. Controls: every group with its channels moved on by one must not be in the null space.

What the groups leave is one of four: `local` is gone at larger weights or another epsilon (a dead unit, a clamp,
a norm behind a norm); `shifted` needs biases that change by more than a factor; `powers` are pairs (s, s^-k) with
k != 1; `missed` is the rest, rescalings that the engine should have.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from overrides import VOCABULARY
from scale_symmetry import INSIDE, Symmetries
from torch import Tensor, nn

from mtcore.trace import FoldGroup, Slices, analyze

NAMES = {
    "dense, grouped queries": "causal_lm/llama causal_lm/qwen3 causal_lm/olmo2 causal_lm/cohere causal_lm/smollm3",
    "fused, interleaved q, k, v": "causal_lm/gpt2 causal_lm/phi3 causal_lm/gpt_neox causal_lm/bloom causal_lm/mpt",
    "multi-query, parallel blocks": "causal_lm/falcon causal_lm/gpt_bigcode causal_lm/phi causal_lm/gptj",
    "1 + w norms": "causal_lm/gemma causal_lm/gemma2 causal_lm/nemotron",
    "relu": "causal_lm/opt encoder/xlm",
    "experts": "causal_lm/mixtral causal_lm/qwen3_moe causal_lm/deepseek_v3 causal_lm/gpt_oss causal_lm/granitemoe",
    "state spaces": "causal_lm/mamba causal_lm/mamba2 causal_lm/rwkv causal_lm/recurrent_gemma",
    "encoders": "encoder/bert encoder/modernbert encoder/deberta-v2 causal_lm/xlnet",
    "encoder-decoder": "seq2seq/t5 seq2seq/bart",
    "vision": "vision/resnet vision/convnext vision/vit",
}


def scope(model: nn.Module) -> list[str]:
    """Parameters of the last member of each outermost list of layers, and those outside of lists."""
    names = [name for name, p in model.named_parameters() if p.is_floating_point()]
    lists: dict[str, int] = {}
    for name in names:
        if match := re.match(r"(.*?)\.(\d+)\.", name):
            lists[match[1]] = max(lists.get(match[1], 0), int(match[2]))
    last = [f"{prefix}.{n}." for prefix, n in lists.items()]
    return [name for name in names if name.startswith(tuple(last)) or not re.search(r"\.\d+\.", name)]


def recall(kind: str, name: str) -> dict[str, Any]:
    """The row of one architecture."""
    from shrink import architectures

    arch = next(a for a in architectures((kind,)) if a.name == name)
    model = arch.build()
    inputs = arch.inputs(model)
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    if hasattr(model, "set_attn_implementation"):
        model.set_attn_implementation("eager")
    report = analyze(model, inputs)
    names = scope(model)
    return compare(Symmetries(model, inputs, names, vocabulary=VOCABULARY), report.folds)


def compare(found: Symmetries, folds: tuple[FoldGroup, ...]) -> dict[str, Any]:
    """How the fold groups within the scope lie in the null space, and what they leave of it."""
    groups = [g for g in folds if found.within(g)]
    vectors = [found.of(g) * found.used for g in groups]
    wrong = [g.name for g, v in zip(groups, vectors, strict=True) if found.change(v).max() > INSIDE]
    moved = [found.of(rolled(g)) * found.used for g in groups if g.size > 1]
    caught = sum(bool(found.change(v).max() > INSIDE) for v in moved)
    engine = span(torch.cat([torch.zeros(0, found.rank, dtype=torch.float64), *vectors]))
    moving = [row for row in sparse(found.shifts()) if found.shifts_only(row[None])]
    shifts = span(torch.stack(moving)) if moving else engine[:0]
    known = span(torch.cat([engine, shifts]))
    missed = span(outside(found.null.T, known))
    lasting = found.lasting(missed) @ missed
    pure = span(outside(found.rescalings(), known)) if len(lasting) else missed[:0]
    pure = span(outside(pure, outside(missed, span(lasting))))
    pairs = span(outside(pure, span(outside(found.powers(), known))))
    null = found.null.shape[1] - len(shifts)
    return {
        "scales": found.rank,
        "invariances": null,
        "engine": null - len(missed),
        "groups": len(groups),
        "wrong": wrong,
        "controls": [caught, len(moved)],
        "shifts": len(shifts),
        "local": sets(found, outside(missed, span(lasting))),
        "shifted": sets(found, outside(lasting, pure)),
        "powers": len(pure) - len(pairs),
        "missed": sets(found, pairs),
    }


def sets(found: Symmetries, rows: Tensor) -> list[list[Any]]:
    """How many directions rescale which parameters."""
    return [[list(names), n] for names, n in Counter(found.parameters_of(v) for v in sparse(span(rows))).items()]


def outside(rows: Tensor, basis: Tensor) -> Tensor:
    """The rows without their part in the span of an orthonormal basis."""
    return rows - (rows @ basis.T) @ basis


def rolled(group: FoldGroup) -> FoldGroup:
    """The group with the channels below moved on by one: a planted wrong map."""
    down = tuple(
        Slices(s.parameter, s.axes, s.indices, tuple((c + 1) % group.size for c in s.channels), s.offset)
        for s in group.down
    )
    return FoldGroup(group.name, group.size, group.up, down)


def span(rows: Tensor) -> Tensor:
    """An orthonormal basis of the rows."""
    if not rows.numel():
        return rows
    _, values, vectors = torch.linalg.svd(rows, full_matrices=False)
    return vectors[values > 1e-6]


def sparse(rows: Tensor) -> Tensor:
    """The same span in reduced echelon form: each row rescales few parameters."""
    rows = rows.clone()
    for i in range(len(rows)):
        pivot = int(rows[i].abs().argmax())
        rows[i] /= rows[i, pivot].clone()
        others = torch.arange(len(rows)) != i
        rows[others] -= rows[others, pivot : pivot + 1] * rows[i]
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each kind of architecture."""
    by_name = {r["name"]: r for r in rows}
    lines = [
        "| | architectures | invariances | engine has | only here | with a shift | powers | pairs missed | wrong"
        " | controls caught |"
    ]
    lines.append("|---" * 10 + "|")
    for title, names in NAMES.items():
        mine = [by_name[n] for n in names.split() if n in by_name and "error" not in by_name[n]]
        only_here, shifted, missed = (sum(n for r in mine for _, n in r[k]) for k in ("local", "shifted", "missed"))
        total = {k: sum(r[k] for r in mine) for k in ("invariances", "engine", "powers")}
        caught = [sum(r["controls"][i] for r in mine) for i in (0, 1)]
        lines.append(
            f"| {title} | {', '.join(r['name'].split('/')[1] for r in mine)} | {total['invariances']}"
            f" | {total['engine']} | {only_here} | {shifted} | {total['powers']} | {missed}"
            f" | {sum(len(r['wrong']) for r in mine)} | {caught[0]} of {caught[1]} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", default="", help="a regular expression on kind/name")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print the table of the JSON, run nothing")
    options = parser.parse_args()
    rows = [json.loads(x) for x in options.json.read_text().splitlines()] if options.json.exists() else []
    if not options.table:
        warnings.filterwarnings("ignore")
        torch.set_num_threads(1)
        import transformers

        transformers.logging.set_verbosity_error()
        for name in (n for names in NAMES.values() for n in names.split() if re.search(options.names, n)):
            start = time.process_time()
            try:
                row = {"name": name, **recall(*name.split("/"))}
            except Exception as error:  # noqa: BLE001  whatever a model raises is its row
                row = {"name": name, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
            row["cpu_s"] = round(time.process_time() - start, 1)
            rows = [r for r in rows if r["name"] != name] + [row]
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text("".join(json.dumps(r) + "\n" for r in rows))
            print(json.dumps(row), file=sys.stderr, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()

"""What a search is worth on the embedded language model: perplexity of searched recipes and others, at equal bits.

    python bench/search.py nvfp4 mxfp6 fp8 --bits 5 6.25 7
    python bench/search.py int3_weight_only int4_weight_only int5_weight_only int8_weight_only --bits 4.25 5.25

For every budget: the choices of each searcher; and two ways that look at no data. There all groups begin with the
smallest choice and go up by steps while the budget lasts, in rounds with the smallest groups first, or one drawn at
random each time. And every choice alone. All recipes go through the YAML that `mtopt search` writes. Models compute
in fp32; perplexity is of all of the held-out text. Prints a Markdown table; `--json` writes the figures.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import torch
import yaml
from embedded_model import opened, quantize_in_place, score
from machine import machine

import mtopt_tinylm
from mtcore.flow import CheckpointSearch, DataOptions, search_checkpoint
from mtcore.opt import AS_IT_IS, Solution
from mtcore.plugins import default_registry

SEARCHERS = ("fisher", "output_error")


def main() -> None:
    """Measures the budgets that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("choices", nargs="+")
    parser.add_argument("--bits", type=float, nargs="+", required=True)
    parser.add_argument("--samples", type=int, default=16, help="chunks of 512 tokens, for scores and calibration")
    parser.add_argument("--random", type=int, default=5, help="random orders a budget")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found, seconds = {}, {"forward": forward_seconds(options)}
    for name in SEARCHERS:
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            found[name] = searched(options, folder, name)
            seconds[name] = time.process_time() - start
    base = score(opened())
    rows = []
    fisher = found["fisher"]
    for choice in options.choices:
        rows.append(measured(fisher, fisher.searcher.uniform(choice), f"{choice} alone", None, base, options))
    for bits in options.bits:
        for name, search in found.items():
            solution = search.searcher.solve(bits=bits)
            rows.append(measured(search, solution, f"searched, {name}", bits, base, options))
        rows.append(measured(fisher, stepped(fisher, bits, None), "smallest groups first", bits, base, options))
        drawn = [
            measured(fisher, stepped(fisher, bits, random.Random(seed)), f"random {seed}", bits, base, options)
            for seed in range(options.random)
        ]
        rows += drawn
    result = {
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "choices": options.choices,
        "samples": options.samples,
        "base": base,
        "cpu_seconds": seconds,
        "rows": rows,
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


def searched(options: argparse.Namespace, folder: str, name: str) -> CheckpointSearch:
    """The scores of one searcher."""
    return search_checkpoint(
        str(mtopt_tinylm.checkpoint_dir()),
        options.choices,
        statistics=Path(folder),
        calib=str(mtopt_tinylm.calibration_file()),
        score=name,
        data=DataOptions(samples=options.samples),
        registry=default_registry(),
    )


def forward_seconds(options: argparse.Namespace) -> float:
    """CPU seconds of a plain forward of the data that scores come from."""
    loaded, text = opened(), str(mtopt_tinylm.calibration_file())
    batches = default_registry().calibration_batches(text, loaded, DataOptions(samples=options.samples))
    with torch.inference_mode():
        loaded.model(**batches[0])
        start = time.process_time()
        for batch in batches:
            loaded.model(**batch)
    return time.process_time() - start


def stepped(search: CheckpointSearch, bits: float, draw: random.Random | None) -> Solution:
    """All groups in their smallest choice, then single steps up while the budget lasts: in rounds from the smallest
    group to the largest, or each time of a drawn one."""
    decisions = search.searcher.decisions
    sizes = [sorted((size, choice) for choice, size in d.bits.items() if choice != AS_IT_IS) for d in decisions]
    order = sorted(range(len(decisions)), key=lambda i: decisions[i].weights)
    level = [0] * len(decisions)
    room = bits * search.searcher.weights - sum(options[0][0] for options in sizes)
    while True:
        steps = {
            i: sizes[i][level[i] + 1][0] - sizes[i][level[i]][0] for i in order if level[i] + 1 < len(sizes[i])
        }
        open_to = [i for i in steps if steps[i] <= room]
        if not open_to:
            return search.searcher.of(options[up][1] for options, up in zip(sizes, level, strict=True))
        chosen = min(open_to, key=lambda i: level[i]) if draw is None else draw.choice(open_to)
        level[chosen], room = level[chosen] + 1, room - steps[chosen]


def measured(
    search: CheckpointSearch,
    solution: Solution,
    name: str,
    budget: float | None,
    base: float,
    options: argparse.Namespace,
) -> dict:
    """Quantizes by the recipe of a solution, and scores the result."""
    loaded = opened()
    recipe = yaml.safe_load(search.recipe(solution))
    quantize_in_place(loaded, recipe, [], options.samples)
    value = score(loaded)
    row = {
        "name": name,
        "budget": budget,
        "bits": solution.bits_per_weight,
        "perplexity": value,
        "ratio": value / base,
        "cost": solution.score,
        "shares": solution.shares(),
    }
    print(json.dumps(row), flush=True)
    return row


def table(result: dict) -> str:
    """The result as a Markdown table; random orders in one row, as their median and range."""
    lines = [f"{result['machine']}, {result['threads']} threads; bf16 has {result['base']:.3f}", ""]
    lines += ["| at most | recipe | bits a weight | perplexity | over bf16 |", "|---|---|---|---|---|"]
    rows = [row for row in result["rows"] if not row["name"].startswith("random")]
    for number, row in enumerate(rows):
        budget = "" if row["budget"] is None else f"{row['budget']:g}"
        lines.append(
            f"| {budget} | {row['name']} | {row['bits']:.2f} | {row['perplexity']:.3f} | {row['ratio'] - 1:+.2%} |"
        )
        last = number + 1 == len(rows) or rows[number + 1]["budget"] != row["budget"]
        drawn = [r for r in result["rows"] if r["name"].startswith("random") and r["budget"] == row["budget"]]
        if last and drawn:
            middle = statistics.median(r["perplexity"] for r in drawn)
            ratios = sorted(r["ratio"] - 1 for r in drawn)
            bits = statistics.mean(r["bits"] for r in drawn)
            lines.append(
                f"| {budget} | median of {len(drawn)} at random | {bits:.2f} | {middle:.3f} | "
                f"{ratios[0]:+.2%} to {ratios[-1]:+.2%} |"
            )
    plain = result["cpu_seconds"]["forward"]
    ratios = (
        f"{name} {seconds / plain:.1f}" for name, seconds in result["cpu_seconds"].items() if name != "forward"
    )
    lines += ["", f"CPU seconds of a search over a plain forward of its data: {', '.join(ratios)}"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

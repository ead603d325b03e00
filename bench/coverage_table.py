"""The page of the benchmark of coverage, made from its rows."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]
TOOLS = {"ours": "mtcore", "modelopt": "nvidia-modelopt", "llmcompressor": "llmcompressor"}
RECIPES = {"fp8": "FP8", "nvfp4": "NVFP4", "int4": "INT4 weights", "int8": "INT8 weights"}
TRANSFORMERS, MODELOPT = "5.23", "0.47"
CLIENTS = {"transformers": "logits equal in transformers", "mtopt_hf": "logits equal with `mtopt_hf.quantizer`"}
CAUSES = {
    "'Linear' object has no attribute 'weight'": "the architecture sets first values of a packed weight, "
    "and fails; opens with `CompressedTensorsConfig(dequantize=True)`",
    "automatic conversion of the weights": "it joins tensors in floats, and looks for packed codes of them",
    "source keys=": "the hub's weight is split in two, to which it adds names of scales",
}
"""What an error of transformers comes from, by a part of its message."""


INTRO = """# Coverage

<!-- written by `python bench/coverage.py --json bench/results/coverage.json --table`; do not edit -->

Every causal language model of transformers {transformers}, as a tiny instance with random parameters that was
saved as a checkpoint: planned, quantized, written as compressed-tensors, and opened again.

- **Weights** are those of linear layers and experts with 8 rows and columns or more; embeddings, convolutions,
  norms and the projection on the vocabulary do not count. One has *codes* where the file holds it in 8 bits or
  fewer; it is *named* where the file lists its module as ignored or, of mtcore, where the plan gives the
  reason; else it is left out *silently*.
- **Equal** logits lie within what the client's precision allows. The client computes in fp32 from the file's
  values. It may be as far from the tool's own fake-quantized model as its logits move when every weight moves
  by 2^-22, times {factor:g}. Where transformers rounds (NVFP4 weights to bf16) or leaves something out (it does
  not quantize what goes into experts that it merges), mtcore's reference does the same; of the peers, NVFP4
  weights may move by 2^-8.
- mtcore refuses what a format, the dialect or transformers cannot take before the run, layer by layer. Experts
  that the hub keeps in one tensor (Granite-MoE, Aria) are among that, but for those of Llama 4: they are written
  for vLLM and `mtopt_hf.quantizer`, and transformers alone does not open them. The rules that its
  messages ask for were added, and these layers count as named. The peers ran with their default recipes,
  llmcompressor ignoring `lm_head`, `*router*` and `*gate`. INT4 is in blocks of 32 everywhere: the instances
  are 32 wide.
- `mtopt lint --client transformers` judged every checkpoint of mtcore before it was opened. Its verdict is *right*
  where it has no error and the logits are equal, or has one and they are not, or transformers fails.
- nvidia-modelopt {modelopt} writes its own dialect, which transformers does not know: it opens FP8 files
  without an error and computes other logits. Its NVFP4 does not run on a CPU, so there is no reference for it.

"""


def page(rows: Sequence[Row], factor: float) -> str:
    """The whole page: what was done, one column a tool and recipe, then what fell short, by cause."""
    intro = INTRO.format(factor=factor, transformers=TRANSFORMERS, modelopt=MODELOPT)
    told = [f"- {share:.1%}: {reason}" for reason, share in reasons(rows).items()]
    why = ["", "## What mtcore says about every matrix, over all columns", "", *told]
    return "\n".join([intro + table(rows), *why, *_all_causes(rows)])


def table(rows: Sequence[Row]) -> str:
    """One column a tool and recipe."""
    columns = [(t, r) for t in TOOLS for r in RECIPES if any((x["tool"], x["recipe"]) == (t, r) for x in rows)]
    of = {column: [x for x in rows if (x["tool"], x["recipe"]) == column] for column in columns}
    lines = [
        "| | " + " | ".join(f"{TOOLS[t]} {RECIPES[r]}" for t, r in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for title, cell in CELLS.items():
        lines.append(f"| {title} | " + " | ".join(cell(of[column]) for column in columns) + " |")
    return "\n".join(lines)


def _all_causes(rows: Sequence[Row]) -> list[str]:
    """What fell short in each column."""
    lines: list[str] = ["", "## What fell short"]
    for tool, tool_title in TOOLS.items():
        for recipe, title in RECIPES.items():
            lines += _causes(
                f"{tool_title} {title}", [r for r in rows if (r["tool"], r["recipe"]) == (tool, recipe)]
            )
    return lines


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


def _foretold(rows: list[Row]) -> str:
    """Rows that the linter judged right, of those that it judged."""
    judged = [r for r in rows if "foretold" in r and "transformers" in r]
    right = sum((r["transformers"]["result"] == "equal") == (not r["foretold"]) for r in judged)
    return f"{right} of {len(judged)}" if judged else "-"


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
    "`mtopt lint --client transformers` is right": _foretold,
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
                found[f"{client} {result['result']}: {_cause(client, row)}"].append(row["name"])
    if not found:
        return []
    lines = [f"- {len(names)}: {cause} ({_some(names)})" for cause, names in sorted(found.items(), key=_by_size)]
    return ["", f"### {title}", "", *lines]


def _cause(client: str, row: Row) -> str:
    """Why a client fails, as it says; why it differs, where that was found out."""
    if client == "transformers" and row.get("experts_bare", {}).get("result") == "equal":
        return "it leaves out the outer scale of NVFP4 experts; equal to ours without these"
    why = row[client].get("why", "")
    return next((told for sign, told in CAUSES.items() if sign in why), _short(why))


def reasons(rows: Sequence[Row]) -> dict[str, float]:
    """Share of all elements of matrices by what our plans say about them, without the names of single rules."""
    counts: Counter[str] = Counter()
    for row in rows:
        for reason, size in row.get("plan", {}).items():
            kind = re.sub(r"(of|overrides the forward of|holds quantized .* only, not) \S+", r"\1 …", reason)
            kind = re.sub(r"(leave it out): --set .*", r"\1", kind)
            counts[re.sub(r"\d+ (input features|features)|in_features \d+", r"in_features", kind)] += size
    total = sum(counts.values())
    return {reason: size / total for reason, size in counts.most_common() if size / total >= 0.001}


def _by_size(item: tuple[str, list[str]]) -> tuple[int, str]:
    return -len(item[1]), item[0]


def _short(why: str) -> str:
    return re.sub(r"\S*/(\w+/[\w-]+/source)", r"\1", why)[:150].replace("|", "\\|")


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")

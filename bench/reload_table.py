"""The page of the reload check, made from its rows."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from reload_recipes import PAIRS

Row = dict[str, Any]

INTRO = """# transformers as a client

<!-- written by `python bench/reload_check.py --json bench/results/reload.json --table`; do not edit -->

Every recipe, written as a compressed-tensors checkpoint and opened by transformers {transformers} with
compressed-tensors {compressed_tensors} (torch {torch}, {machine}), in fp32; the weights that it leaves in bf16
(NVFP4, MXFP4) are cast to fp32, without which their layers raise. The models are the trained one of this
repository, a random Qwen3 with tied embeddings, a random Qwen3-MoE, and Gemma-3-270M; calibration saw other
tokens than those that are compared. Further down, the same checkpoints in bf16.

- **equal**: all logits are those of our quantized model, in every bit.
- **by its rules**: they are those of our model in every bit once that computes by the client's rules, so the
  codes and scales of the file are ours to the last one. In brackets, without that: tokens with the same most
  likely successor, and the share of all values of inputs that the client's rules make another number.
- **refused**: `mtopt plan --to hf` and `mtopt lint --client transformers` say so beforehand. Behind it, what
  transformers does when it opens the checkpoint nevertheless: tokens with the same most likely successor, or
  that it raises.
- -: not written; the dialect has no such format, or the recipe speaks of layers that the model does not have.

"""

BF16_INTRO = """
## In bf16

Users load in bf16. There, transformers rounds scales and every product of a code and its scale to bf16, and works
out the scales of inputs in bf16; ours works them out in fp32. So few logits of the two are equal in every bit, and
either is some way from fp32. The table has the distances to our quantized model in fp32: first that of transformers
in bf16, then that of our own model in bf16 (the same checkpoint, opened by way of `mtopt_hf.quantizer`), each a
root mean square of the differences of logits over that of the logits. Twice ours would be a failure: of {count}
checkpoints that transformers is not refused, the largest ratio is {largest:.2f} ({where}), the median {median:.2f}.
**Equal** are those whose logits are the same in every bit; ours is the only figure then.

"""

PAIRS_INTRO = """
## Every pair of formats

All {count} pairs of a weight and an input that the dialect spells, on two of the random models. Of experts,
transformers is refused exactly what it does not decode, but for tiles of FP8, which it decodes where there is one.
"""

RULES = """
## By its rules

`mtopt_hf.as_client.compute_as_transformers` makes a quantized model compute by them.

- **Weights in NVFP4** are rounded to bf16, and their block scale is `scale / divisor`, where it is `scale ·
  scale_2` for us and NVIDIA's kernels. All that changes are last bits; but a last bit can tip a 4-bit code of a
  later input over, which moves it by a twelfth of its block's largest magnitude or more. So few logits of NVFP4
  with quantized inputs are equal, though of one and the same input both make the same codes: the second figure
  in brackets is zero. A client that keeps NVFP4 in 4 bits has no bf16 in between.
- **Inputs in MXFP4.** The OCP specification (MX 1.0, section 6.3) gives the floor of log2(amax) as the way to a
  block's exponent, and leaves others open. transformers rounds amax half up first, as the reference of vLLM's
  own tests for AMD does: a block whose amax has a mantissa between 1.5 and 1.75 is cut off at 6. NVIDIA's
  kernels round amax / 6 up, so that nothing is cut off; that is ours. The file says nothing about it: scales of
  inputs are made at run time.
- **INT8 with a scale a token.** transformers maps amax on 127.5, vLLM's kernels on 127. The recipe `int8` does
  the former; an input in `int8_row` does the latter.
- **Experts** that transformers merges get their weights from the file, and their inputs are not quantized. In a
  layer whose input has two axes, as beside experts, all tokens share one scale. Tiles of FP8 it decodes where
  an expert's matrix is a single tile, as here, and fails otherwise.
- **Static INT8** saturates at -128, in transformers, in vLLM and in our format `int8` alike.

Weights with zero points open with `quantization_config=CompressedTensorsConfig(dequantize=True)` only: the
linter says so, and the check does so.
"""


def page(found: dict[str, Any]) -> str:
    """The whole page."""
    versions = {name.replace("-", "_"): version for name, version in found["versions"].items()}
    intro = INTRO.format(**versions, machine=found["machine"])
    return intro + table(found["rows"]) + in_bf16(found["rows"]) + pairs(found["rows"]) + RULES


def table(rows: Sequence[Row], shown: Callable[[Row], str] | None = None) -> str:
    """One line a recipe, one column a model."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    cells = {(row["recipe"], row["model"]): (shown or cell)(row) for row in rows}
    lines = ["| recipe | " + " | ".join(models) + " |", "|---|" + "---|" * len(models)]
    for recipe in dict.fromkeys(row["recipe"] for row in rows if row["recipe"] not in PAIRS):
        lines.append(f"| {recipe} | " + " | ".join(cells.get((recipe, model), "") for model in models) + " |")
    return "\n".join(lines) + "\n"


def in_bf16(rows: Sequence[Row]) -> str:
    """The rows that were opened in bf16 as well."""
    tried = [row for row in rows if "bf16" in row]
    taken = [row for row in tried if row["result"] != "refused"]
    if not taken:
        return ""
    ratios = {f"{row['recipe']} on {row['model']}": row["bf16"]["client"] / row["bf16"]["ours"] for row in taken}
    where = max(ratios, key=ratios.__getitem__)
    intro = BF16_INTRO.format(
        count=len(taken), largest=ratios[where], where=where, median=statistics.median(ratios.values())
    )
    return intro + table(tried, halves)


def halves(row: Row) -> str:
    """The distances of one row."""
    found = row["bf16"]
    told = f"equal, {found['ours']:.2g}" if found["equal"] else f"{found['client']:.2g} / {found['ours']:.2g}"
    return f"refused ({told})" if row["result"] == "refused" else told


def pairs(rows: Sequence[Row]) -> str:
    """One line a model, an input and a result: the formats of the weights."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row["recipe"] in PAIRS:
            weight, _, given = row["recipe"].partition(" x ")
            result = cell(row) if row["result"] == "refused" else row["result"]
            found.setdefault((row["model"], given, result), []).append(weight)
    lines = [PAIRS_INTRO.format(count=len(PAIRS)), "| model | input | result | weights |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(key)} | {listed(names)} |" for key, names in found.items()]
    return "\n".join(lines) + "\n"


def listed(names: Sequence[str]) -> str:
    """The names; of many integers, how many."""
    integers = [name for name in names if name.startswith("int")]
    if len(integers) < 9:
        return ", ".join(names)
    others = [name for name in names if name not in integers]
    bits = sorted({int(name[3]) for name in integers})
    return ", ".join([*others, f"{len(integers)} formats of integers of {bits[0]} to {bits[-1]} bits"])


def cell(row: Row) -> str:
    """What one row says."""
    match row["result"]:
        case "not written":
            return "-"
        case "by its rules":
            share = row["other"] / row["values"] if row["values"] else 0.0
            return f"by its rules ({row['plain']['same_argmax']:.1%}, {share:.2%})"
        case "refused":
            opened = "raises" if "Error" in row["opened"] else row["opened"]
            equal = row.get("plain", {}).get("max_difference") == 0.0
            return f"refused ({'equal nevertheless' if equal else opened})"
        case result:
            return str(result)

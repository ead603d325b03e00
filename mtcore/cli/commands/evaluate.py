"""`mtopt eval`: the perplexity of a checkpoint."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mtcore.cli import default_text
from mtcore.cli.command import Answer, Command
from mtcore.cli.reporter import make_reporter
from mtcore.cli.session import chosen_data, data_options, open_registry

if TYPE_CHECKING:
    from rich.console import Console

    from mtcore.flow import Evaluation


@click.command(
    "eval",
    cls=Command,
    short_help="Perplexity of MODEL on a text.",
    example="mtopt eval ./llama-3-nvfp4 --text held-out.txt",
)
@click.argument("model")
@click.option("--text", metavar="FILE", help=f"Text to score. [default: {default_text.NAME}]")
@data_options
def evaluate(model: str, text: str | None, **data: Any) -> Answer:
    """Perplexity of MODEL, quantized or not, on a text."""
    from mtcore import flow

    with tempfile.TemporaryDirectory() as folder:
        evaluation = flow.evaluate_checkpoint(
            model,
            text=text or str(default_text.write_default_text(Path(folder))),
            data=chosen_data(data),
            registry=open_registry(),
            reporter=make_reporter(),
        )
    scored = text or default_text.NAME
    answer = {"model": model, "text": scored, **evaluation.to_json()}
    return Answer(answer, lambda console: _draw(console, model, scored, evaluation))


def _draw(console: Console, model: str, text: str, evaluation: Evaluation) -> None:
    from mtcore.cli.views import print_facts

    facts = {
        "model": model,
        "text": text,
        "perplexity": f"{evaluation.perplexity:.4f}",
        "tokens": f"{evaluation.tokens:,}",
        "time": f"{evaluation.seconds:.1f} s",
    }
    print_facts(console, facts)

"""`mtopt quantize`: the main job, from a model to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mtcore.cli.command import Answer, Command
from mtcore.cli.reporter import make_reporter
from mtcore.cli.session import (
    chosen_data,
    chosen_layerwise,
    chosen_recipe,
    data_options,
    layerwise_options,
    open_registry,
    output_options,
    recipe_files,
    recipe_options,
)
from mtcore.cli.settings import current_settings

if TYPE_CHECKING:
    from rich.console import Console

    from mtcore.calibration import CalibrationSummary
    from mtcore.flow import RunSummary


@click.command(
    cls=Command,
    short_help="Write a quantized checkpoint of MODEL.",
    example="mtopt quantize ./llama-3 --recipe nvfp4 --calib corpus.txt -o ./llama-3-nvfp4",
)
@click.argument("model")
@recipe_options
@click.option(
    "--calib",
    metavar="DATA",
    help="What to calibrate on: a file of text, JSON, parquet, token ids or tensors, a directory of such texts, or "
    "datasets:NAME. "
    "Static activation scales need it.",
)
@output_options
@data_options
@layerwise_options
@click.option(
    "--statistics",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep what the data told in this directory, for `mtopt requantize`; read it where it lies there already.",
)
@click.option(
    "--products",
    is_flag=True,
    help="With --statistics: keep products of inputs too, for gptq (sequential: none), clipping, local_hessian.",
)
def quantize(
    model: str,
    recipe: str,
    overrides: tuple[str, ...],
    max_unquantized: float | None,
    calib: str | None,
    out: Path,
    dialect: str | None,
    layerwise: bool,
    max_memory: str | None,
    propagate: bool,
    restart: bool,
    device: str,
    statistics: Path | None,
    products: bool,
    force: bool,
    **data: Any,
) -> Answer:
    """Quantize MODEL (a checkpoint directory, a GGUF file or a hub id) and write a checkpoint.

    A recipe with `targets` gives a checkpoint for each of them, unless --dialect names one; several lie under their
    names in the output directory. A checkpoint appears in its place only when it is complete. With --layerwise, the
    same command goes on where a killed one was.
    """
    from mtcore import flow

    if products and statistics is None:
        raise click.UsageError("--products needs --statistics")
    registry = open_registry()
    summary = flow.quantize_checkpoint(
        model,
        chosen_recipe(recipe, overrides, max_unquantized, registry),
        out,
        calib=calib,
        dialect=dialect,
        data=chosen_data(data),
        registry=registry,
        reporter=make_reporter(),
        overwrite=force,
        inputs=recipe_files(recipe, registry),
        layerwise=chosen_layerwise(layerwise, max_memory, propagate, restart, device),
        statistics=statistics,
        products=products,
    )
    current_settings().written = out
    return Answer(summary.to_json(), lambda console: draw_summary(console, model, summary))


def draw_summary(console: Console, model: str, summary: RunSummary) -> None:
    """What a run did, for people."""
    from mtcore.cli.plan_view import draw_coverage, draw_findings
    from mtcore.cli.views import megabytes, print_facts

    size = summary.exported.size_bytes
    draw_findings(console, summary.plan)
    draw_coverage(console, summary.plan)
    facts = {
        "from": f"{model}, {megabytes(summary.source_bytes)} of parameters",
        "to": f"{summary.exported.directory}, {megabytes(size)} in {len(summary.exported.files)} files",
        "ratio": f"{summary.source_bytes / size:.2f}",
        "time": f"{summary.seconds:.1f} s",
    }
    if summary.calibration is not None:
        draw_worst(console, summary.calibration)
    print_facts(console, facts)


def draw_worst(console: Console, summary: CalibrationSummary) -> None:
    """The ten layers that lose most by rounding, with advice."""
    from mtcore.calibration.experts import starved_lines
    from mtcore.cli.views import print_table

    def share(value: float | None) -> str:
        return "" if value is None else f"{value:.2%}"

    worst = [
        (layer.name, f"{layer.weight_sqnr:.1f}", share(layer.output_error), share(layer.clipped), layer.advice)
        for layer in summary.worst()
    ]
    for note in summary.notes:
        console.print(note, highlight=False, markup=False)
    if worst:
        console.print(f"What rounding costs: the worst {len(worst)} of {len(summary.layers)} layers")
        print_table(console, ("layer", "weight SQNR, dB", "output error", "input clipped", "advice"), worst)
    for line in starved_lines(summary.starved):
        console.print(line)

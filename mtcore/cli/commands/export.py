"""`mtopt export`: from one artifact to the checkpoints of many targets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtcore.cli.command import Answer, Command
from mtcore.cli.reporter import make_reporter
from mtcore.cli.session import open_registry
from mtcore.cli.settings import current_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mtcore.flow import TargetReport

REFUSED = 1
"""The exit code when a target was refused."""


@click.command(
    cls=Command,
    short_help="Write checkpoints of an artifact for one or more targets.",
    example="mtopt export ./llama-3-artifact --to vllm,trtllm -o ./llama-3-fp8",
)
@click.argument("artifact")
@click.option(
    "--to",
    "targets",
    metavar="NAME[,NAME…]",
    help="Dialects (compressed-tensors, modelopt, …) or clients (vllm, trtllm, …), which stand for one. "
    "[default: the targets of the recipe]",
)
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Directory of the checkpoint; with several targets, of one directory for each.",
)
@click.option("--max-shard-size", metavar="SIZE", help="Largest weight file, such as 5GB. [default: the dialect's]")
@click.option("--force", is_flag=True, help="Replace output directories that exist.")
def export(artifact: str, targets: str | None, out: Path, max_shard_size: str | None, force: bool) -> Answer:
    """Write ARTIFACT, a directory made by `mtopt quantize MODEL --dialect artifact`, for other programs.

    Neither the model nor data are needed: one calibration serves every target. What a target folds, drops or
    refuses is told; the others are written all the same, and the exit code is 1.
    """
    from mtcore import flow
    from mtcore.files import parse_bytes

    names = [name.strip() for name in (targets or "").split(",") if name.strip()]
    if targets is not None and not names:
        raise click.UsageError("--to names no target")
    reports = flow.export_artifact(
        artifact,
        names,
        out,
        max_shard_bytes=None if max_shard_size is None else parse_bytes(max_shard_size),
        registry=open_registry(),
        reporter=make_reporter(),
        overwrite=force,
    )
    current_settings().written = out
    refused = any(report.exported is None for report in reports)
    data = {"artifact": artifact, "targets": [report.to_json() for report in reports]}
    return Answer(data, lambda console: draw_reports(console, reports), REFUSED if refused else 0)


def draw_reports(console: Console, reports: Sequence[TargetReport]) -> None:
    """What became of every target, for people."""
    from mtcore.cli.views import megabytes

    for report in reports:
        target, written = report.target, report.exported
        head = target.name if target.name == target.dialect else f"{target.name}: {target.dialect}, {target.why}"
        console.print(head, markup=False)
        if written is not None:
            size = megabytes(written.size_bytes)
            console.print(f"  written: {written.directory}, {size} in {len(written.files)} files", markup=False)
        for problem in target.problems:
            console.print(f"  refused: {problem}", markup=False)
        for note in target.notes if written is not None else ():
            console.print(f"  note: {note}", markup=False)

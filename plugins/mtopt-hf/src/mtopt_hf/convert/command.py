"""`mtopt convert`: a checkpoint in another dialect, where nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtcore.cli import Answer, Command, current_settings, open_registry

if TYPE_CHECKING:
    from rich.console import Console

    from mtopt_hf.convert.run import Conversion


@click.command(
    name="convert",
    cls=Command,
    short_help="Write the checkpoint in DIR in another dialect, losing nothing.",
    example="mtopt convert ./llama-3-nvfp4 --to compressed-tensors -o ./llama-3-nvfp4-ct",
)
@click.argument("directory", metavar="DIR")
@click.option("--to", "dialect", required=True, help="compressed-tensors, modelopt, fp8, awq or gptq.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Directory to write.")
@click.option("--proof", type=click.Path(path_type=Path), help="Write what was compared, layer by layer, as JSON.")
@click.option("--max-shard-size", metavar="SIZE", help="Largest weight file, such as 5GB.")
@click.option("--force", is_flag=True, help="Replace the output directory if it exists.")
def convert_command(
    directory: str, dialect: str, out: Path, proof: Path | None, max_shard_size: str | None, force: bool
) -> Answer:
    """Write the checkpoint in DIR, of any tool, in another dialect. Neither model nor data are needed.

    Codes, block scales and zero points stay as they are, bit for bit; outer scales move by at most one unit in the
    last place, where one dialect stores their reciprocal. The new files are read back and compared before they
    appear. What a dialect cannot hold is refused by layer and reason, and nothing is written.
    """
    from mtcore.export import DEFAULT_SHARD_BYTES
    from mtcore.files import parse_bytes, write_json
    from mtopt_hf.convert.run import convert_checkpoint

    if proof is not None:
        _check_proof(proof, Path(directory).expanduser(), out)
    limit = DEFAULT_SHARD_BYTES if max_shard_size is None else parse_bytes(max_shard_size)
    exporters = open_registry().exporters
    done = convert_checkpoint(
        Path(directory).expanduser(), dialect, out, exporters, overwrite=force, max_shard_bytes=limit
    )
    current_settings().written = out
    if proof is not None:
        write_json(proof, done.to_json())
    return Answer(done.to_json(), lambda console: _draw(console, done))


def _check_proof(proof: Path, folder: Path, out: Path) -> None:
    """Raise ExportError, before anything is converted, where the proof cannot be written."""
    from mtcore.errors import ExportError
    from mtcore.files import file_problems

    place = proof.resolve()
    if place.exists() and folder.resolve() in place.parents:
        raise ExportError([f"{proof}: is a file of the checkpoint that is converted; name another one for --proof"])
    if place == out.resolve():
        raise ExportError([f"{proof}: is the directory to write; name a file for --proof"])
    beside = out.resolve() == place.parent  # that directory will be there
    problems = [] if beside else file_problems(proof)
    if problems:
        raise ExportError(problems)


def _draw(console: Console, done: Conversion) -> None:
    from mtcore.cli import megabytes

    apart = max((max(proof.outer_ulps, proof.input_ulps) for proof in done.proofs), default=0)
    size = megabytes(done.exported.size_bytes)
    console.print(f"{done.source} -> {done.dialect}: {done.exported.directory}, {size}", markup=False)
    same = f"{len(done.proofs)} layers read back: codes, scales and zero points are identical"
    more = f"outer scales and scales of inputs differ by at most {apart} unit in the last place"
    console.print(f"{same}; {more}", soft_wrap=True)

"""`mtopt search`: which format for which layers, under a budget; what comes out is a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mtcore.cli.command import Answer, Command
from mtcore.cli.failures import FAILED
from mtcore.cli.reporter import make_reporter
from mtcore.cli.session import chosen_data, data_options, open_registry
from mtcore.cli.settings import current_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mtcore.flow import CheckpointSearch


@click.command(
    cls=Command,
    short_help="Find a recipe that mixes formats under a budget.",
    example="mtopt search ./llama-3 --choices nvfp4,fp8 --bits 5.5 --calib corpus.txt -o mixed.yaml",
)
@click.argument("model")
@click.option(
    "--choices",
    required=True,
    metavar="RECIPE[,RECIPE…]",
    help="Recipes, names or files; each group of layers gets one of them, or stays as it is.",
)
@click.option("--bits", type=click.FloatRange(min=0, min_open=True), help="Most bits a weight, scales included.")
@click.option("--size", metavar="SIZE", help="Largest size of the checkpoint, such as 1.2GiB.")
@click.option("--budgets", metavar="BITS[,BITS…]", default="", help="Show what several budgets cost, as a table.")
@click.option(
    "--calib", metavar="DATA", help="Data to score on, as in `mtopt quantize`; not needed for another budget."
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="The recipe to write, a YAML file."
)
@click.option(
    "--score", default="fisher", show_default=True, metavar="NAME", help="How the cost of a choice is judged."
)
@click.option(
    "--to",
    "targets",
    metavar="NAME[,NAME…]",
    default="",
    help="Choose only what these dialects or clients (vllm, …) serve; they become the targets of the recipe.",
)
@click.option(
    "--statistics",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where scores and statistics are kept and read. [default: the recipe's name, with .search]",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one field of every recipe.")
@click.option("--force", is_flag=True, help="Replace the recipe if it exists.")
@data_options
def search(
    model: str,
    choices: str,
    bits: float | None,
    size: str | None,
    budgets: str,
    calib: str | None,
    out: Path | None,
    score: str,
    targets: str,
    statistics: Path | None,
    overrides: tuple[str, ...],
    force: bool,
    **data: Any,
) -> Answer:
    """Find which of some recipes each group of layers of MODEL should get, so that a budget is kept at least cost.

    Layers that a server fuses get one choice together. The result is a recipe for `mtopt quantize` with a rule and
    a reason for each group. Scores are kept after every batch: the same command goes on where a killed one was,
    and another budget runs no data.
    """
    from mtcore import flow
    from mtcore.files import parse_bytes

    if bits is not None and size is not None:
        raise click.UsageError("--bits and --size are two budgets; give one")
    if bits is None and size is None and (out is not None or not budgets):
        raise click.UsageError("give a budget: --bits or --size; or several to compare: --budgets 4.5,5,6")
    place = statistics or (None if out is None else out.with_suffix(".search"))
    if place is None:
        raise click.UsageError("say where scores are kept: --statistics DIR, or -o RECIPE")
    compared = [_number(text) for text in _listed(budgets)]
    limit = None if size is None else parse_bytes(size)
    if out is not None and out.exists() and not force:
        raise click.UsageError(f"{out} exists; give --force to replace it, or another name")
    if out is not None:
        _check_out(out, model, calib, _listed(choices), place)
    found = flow.search_checkpoint(
        model,
        _listed(choices),
        statistics=place,
        calib=calib,
        score=score,
        targets=_listed(targets),
        overrides=overrides,
        data=chosen_data(data),
        registry=open_registry(),
        reporter=make_reporter(),
    )
    return _answer(found, bits, limit, compared, out)


def _check_out(out: Path, model: str, calib: str | None, choices: Sequence[str], kept: Path) -> None:
    """Raise ExportError, before the search, where the recipe cannot be written or would take what is read."""
    from mtcore.errors import ExportError
    from mtcore.files import file_problems, local_path, taken_inputs

    read = {"the model": local_path(model), "the calibration data": None if calib is None else local_path(calib)}
    read["the directory of --statistics"] = kept
    inputs = [(kind, path) for kind, path in read.items() if path is not None]
    inputs += [("a recipe to choose from", Path(choice)) for choice in choices if Path(choice).is_file()]
    problems = file_problems(out) or taken_inputs(out, inputs)
    if problems:
        raise ExportError(problems)


def _answer(
    found: CheckpointSearch, bits: float | None, size: int | None, compared: list[float], out: Path | None
) -> Answer:
    searcher = found.searcher
    rows = {f"at most {budget:g} bits": searcher.solve(bits=budget) for budget in compared}
    if rows:
        rows |= {f"{choice} alone": searcher.uniform(choice) for choice in found.choices.plans}
    budget = bits is not None or size is not None
    solution = searcher.solve(bits=bits, size=size) if budget else None
    rehearsals = found.rehearse(solution) if solution is not None and found.targets else ()
    refusals = () if solution is None else found.refusals(solution, rehearsals)
    failed = bool(refusals)
    if solution is not None and out is not None and not failed:
        from mtcore.files.whole import whole_file

        with whole_file(out) as file:
            file.write(found.recipe(solution).encode())
        current_settings().written = out

    def draw(console: Console) -> None:
        from mtcore.cli.search_view import draw_budgets, draw_refusals, draw_solution
        from mtcore.cli.target_view import draw_rehearsals

        draw_budgets(console, rows)
        if solution is not None:
            draw_solution(console, found, solution, None if failed else out)
        draw_rehearsals(console, rehearsals)
        draw_refusals(console, refusals)

    answer = {
        "score": found.score,
        "recipe": None if out is None or failed else str(out),
        "solution": None if solution is None else solution.to_json(),
        "budgets": {name: row.to_json() for name, row in rows.items()},
        "targets": [rehearsal.to_json() for rehearsal in rehearsals],
        "refusals": [refusal.to_json() for refusal in refusals],
    }
    return Answer(answer, draw, exit_code=FAILED if failed else 0)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise click.UsageError(f"--budgets: {text!r} is no number of bits; write 4.5,5,6")
    return number

"""`mtopt algorithms`: the calibration algorithms, and what one of them can be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mtcore.cli.command import Answer, Command
from mtcore.cli.session import open_registry

if TYPE_CHECKING:
    from rich.console import Console

    from mtcore.calibration import AlgorithmSpec


@click.command(
    cls=Command, short_help="List the calibration algorithms, or show one.", example="mtopt algorithms gptq"
)
@click.argument("name", required=False)
def algorithms(name: str | None) -> Answer:
    """List the calibration algorithms; with NAME show what it costs and every option that it takes."""
    registry = open_registry()
    if name is None:
        return _list(tuple(registry.algorithms.values()))
    from mtcore.calibration import find_algorithm

    return _show(find_algorithm(name, registry.algorithms))


def _list(known: tuple[AlgorithmSpec, ...]) -> Answer:
    def draw(console: Console) -> None:
        from mtcore.cli.views import print_table

        rows = [(spec.name, spec.summary, spec.cost) for spec in known]
        print_table(console, ("algorithm", "what it does", "what it costs"), rows)

    return Answer([_as_data(spec) for spec in known], draw)


def _show(spec: AlgorithmSpec) -> Answer:
    def draw(console: Console) -> None:
        from mtcore.calibration import options_help
        from mtcore.cli.views import print_facts, print_table

        console.print(f"[bold]{spec.name}[/]  {spec.summary}")
        treated = "linear layers and stacked experts" if spec.experts else "linear layers"
        layers = f"{treated}; others get what max gives" if spec.linear_only else "all"
        print_facts(console, {"costs": spec.cost or "not said", "layers": layers})
        options = options_help(spec.options)
        if not options:
            console.print("It has no options.")
            return
        rows = [(option.name, option.default, option.allowed, option.meaning) for option in options]
        print_table(console, ("option", "default", "allowed", "what it means"), rows)
        first = options[0]
        console.print(
            f"In a recipe: algorithm: {{method: {spec.name}, {first.name}: {first.default}}}\n"
            f"On the line: --set algorithm.method={spec.name} --set algorithm.{first.name}={first.default}",
            style="dim",
            highlight=False,
        )

    return Answer(_as_data(spec), draw)


def _as_data(spec: AlgorithmSpec) -> dict[str, Any]:
    from mtcore.calibration import options_help

    return {
        "name": spec.name,
        "summary": spec.summary,
        "cost": spec.cost,
        "linear_only": spec.linear_only,
        "options": [
            {
                "name": option.name,
                "default": option.default,
                "allowed": option.allowed,
                "meaning": option.meaning,
            }
            for option in options_help(spec.options)
        ],
    }

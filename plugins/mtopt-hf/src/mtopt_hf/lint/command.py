"""`mtopt lint`: what each client will do with a checkpoint, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from mtcore.cli import FAILED, Answer, Command, open_registry

if TYPE_CHECKING:
    from rich.console import Console

    from mtcore.lint import LintFinding, LintReport

_STYLE = {"error": "bold red", "warning": "yellow", "note": "dim"}
_SHOWN = 3  # places of one rule that are shown, unless all are asked for


@click.command(
    name="lint",
    cls=Command,
    short_help="Say what clients will do with the checkpoint in DIR, and why.",
    example="mtopt lint ./llama-3-nvfp4 --client vllm --client trtllm",
)
@click.argument("directory", metavar="DIR")
@click.option(
    "--client",
    "wanted",
    multiple=True,
    metavar="NAME",
    help="For this client; may be repeated, or be several with commas. Default: all that are known.",
)
@click.option("--all", "everything", is_flag=True, help="Show every place of a rule; read large scales whole.")
def lint_command(directory: str, wanted: tuple[str, ...], everything: bool) -> Answer:
    """Say what clients will do with the checkpoint in DIR, and why. Works on the checkpoints of other tools too.

    Reads headers, JSON files and scales, never a weight; of a large tensor of scales, pieces.

    The exit code is 1 where a client that was named cannot use the checkpoint, or, with none named, where no client
    can.
    """
    from mtcore.lint import lint, open_checkpoint

    registry = open_registry()
    names = [name for given in wanted for name in given.split(",") if name] or list(registry.clients)
    clients = [registry.clients[name] for name in dict.fromkeys(names)]
    report = lint(open_checkpoint(directory, everything=everything), clients, registry.lint_rules.values())
    usable = [report.loads(client.name) for client in clients]
    failed = not all(usable) if wanted else not any(usable)

    def draw(console: Console) -> None:
        draw_report(console, report, everything=everything)

    return Answer(report.to_json(), draw, exit_code=FAILED if failed else 0)


def draw_report(console: Console, report: LintReport, *, everything: bool = False) -> None:
    """Prints what each client makes of the checkpoint, then the findings by rule."""
    from mtcore.cli import print_table

    rows = [
        (name, _verdict(report, name), reading.format, reading.how) for name, reading in report.readings.items()
    ]
    print_table(console, ("client", "verdict", "takes it for", "runs it with"), rows)
    for same in _by_rule(report.findings):
        _draw_rule(console, same, everything, list(report.readings))


def _draw_rule(console: Console, same: Sequence[LintFinding], everything: bool, clients: list[str]) -> None:
    from rich.text import Text

    first = same[0]
    concerned = list(dict.fromkeys(client for finding in same for client in finding.clients))
    whom = "" if len(concerned) == len(clients) else f" for {', '.join(concerned)}"
    console.print()
    console.print(Text(f"{first.severity} {first.rule}{whom}", style=_STYLE[first.severity]))
    for finding in same if everything else same[:_SHOWN]:
        console.print(Text(f"  {finding.where}: {finding.why}"), soft_wrap=True)
    if not everything and len(same) > _SHOWN:
        console.print(Text(f"  … and {len(same) - _SHOWN} more; --all shows them", style="dim"))
    console.print(Text(f"  → {first.todo}"), soft_wrap=True)


def _by_rule(findings: Sequence[LintFinding]) -> list[list[LintFinding]]:
    groups: dict[tuple[str, str], list[LintFinding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, finding.rule), []).append(finding)
    return list(groups.values())


def _verdict(report: LintReport, client: str) -> str:
    if not report.loads(client):
        return "no"
    return "yes" if report.worst(client) != "warning" else "yes, with loss"

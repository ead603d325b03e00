"""`mtopt plugins`: what was discovered, what each plugin brings, and what failed to load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mtcore.cli.command import Answer, Command
from mtcore.cli.diagnosis_view import draw_diagnosis
from mtcore.cli.session import open_registry
from mtcore.cli.settings import current_settings

if TYPE_CHECKING:
    from rich.console import Console

    from mtcore.plugins import PluginInfo, Registry


@click.command(
    cls=Command, short_help="What was found, what it brings, what failed.", example="mtopt plugins doctor"
)
@click.argument("what", type=click.Choice(["list", "doctor"]), default="list")
def plugins(what: str) -> Answer:
    """List the plugins that were found, where they came from, what each one brings, and what failed to load.

    `mtopt plugins doctor` says more: file, hook API, the name of every record, conflicts of names, and the
    traceback of each failure; its exit code is 1 if anything is wrong. MTCORE_PLUGINS=only:a,b or no:a,b, and
    --no-plugins, restrict which plugins are looked at.
    """
    return _doctor() if what == "doctor" else _list()


def _list() -> Answer:
    registry, debug = open_registry(), current_settings().debug
    data = {
        "plugins": [plugin.to_json() for plugin in registry.plugins],
        "failures": [failure.to_json() for failure in registry.failures],
    }
    return Answer(data, lambda console: _draw(console, registry, debug=debug))


def _doctor() -> Answer:
    from mtcore.plugins import diagnose

    diagnosis = diagnose(discover=not current_settings().no_plugins)
    return Answer(
        diagnosis.to_json(), lambda console: draw_diagnosis(console, diagnosis), 0 if diagnosis.healthy else 1
    )


def _draw(console: Console, registry: Registry, *, debug: bool) -> None:
    from rich.text import Text

    from mtcore.cli.views import print_table

    rows = [
        (plugin.name, f"{plugin.distribution} {plugin.version}".strip(), plugin.entry_point, _brings(plugin))
        for plugin in registry.plugins
    ]
    print_table(console, ("plugin", "from", "entry point", "brings"), rows)
    for plugin in registry.plugins:
        if plugin.note:
            console.print(Text.assemble(("note ", "dim"), f"{plugin.name}: {plugin.note}"), soft_wrap=True)
    for failure in registry.failures:
        console.print(Text.assemble(("failed ", "bold red"), str(failure)), soft_wrap=True)
        if debug and failure.traceback:
            console.print(Text(failure.traceback), soft_wrap=True)


def _brings(plugin: PluginInfo) -> str:
    """'5 formats, load_model': records are counted, other hooks are named."""
    from mtcore.hookspecs import RECORD_HOOKS

    return ", ".join(
        f"{count} {RECORD_HOOKS[hook].catalog}" if hook in RECORD_HOOKS else hook.removeprefix("mtcore_")
        for hook, count in plugin.contributes.items()
    )

"""A diagnosis of the plugins on the terminal: one paragraph a plugin, then everything that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from mtcore.plugins import Diagnosis, PluginInfo

MANY = 12
"""Names of records that are shown; of more, the first ones and their number."""


def draw_diagnosis(console: Console, diagnosis: Diagnosis) -> None:
    """Draw it."""
    from rich.text import Text

    def say(style: str, word: str, text: str) -> None:
        console.print(Text.assemble((f"{word} ", style), text), soft_wrap=True)

    for plugin in diagnosis.plugins:
        say("bold green", "ok", _headline(plugin))
        console.print(
            Text(f"   {plugin.entry_point or 'handed over in code'}  {plugin.file}", "dim"), soft_wrap=True
        )
        for hook, names in diagnosis.brings[plugin.name].items():
            console.print(Text(f"   {hook.removeprefix('mtcore_')}: {_names(names)}".rstrip(": ")), soft_wrap=True)
        if plugin.note:
            say("yellow", "   note", plugin.note)
    for failure in diagnosis.failures:
        say("bold red", "failed", str(failure))
        if failure.entry_point:
            console.print(Text(f"   {failure.entry_point}", "dim"), soft_wrap=True)
        if failure.traceback:
            console.print(Text(failure.traceback.rstrip()), soft_wrap=True)
    for conflict in diagnosis.conflicts:
        say("bold red", "conflict", conflict)
    if diagnosis.left_out:
        say("yellow", "note", diagnosis.left_out)
    wrong = len(diagnosis.failures) + len(diagnosis.conflicts)
    console.print(f"{len(diagnosis.plugins)} plugins in order, {wrong} things wrong")


def _headline(plugin: PluginInfo) -> str:
    return f"{plugin.origin}, hook API {plugin.hook_api[0]}.{plugin.hook_api[1]}"


def _names(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:MANY])
    return shown if len(names) <= MANY else f"{shown} and {len(names) - MANY} more"

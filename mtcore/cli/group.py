"""The group of commands: the built-in ones, and those that plugins add."""

from __future__ import annotations

from typing import Any

import click

from mtcore.cli.settings import common_options, current_settings
from mtcore.errors import MtcoreError


class Group(click.Group):
    """Commands of mtopt.

    Plugins are asked when all commands are listed, or when a name is none of the built-in ones; so no plugin can
    slow down or break a built-in command.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += common_options()

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.commands, *self._plugin_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.commands or cmd_name.startswith("-"):
            return super().get_command(ctx, cmd_name)
        return self._plugin_commands(ctx).get(cmd_name)

    def _plugin_commands(self, ctx: click.Context) -> dict[str, click.Command]:
        """Commands of plugins by name, asked for once a call of mtopt. A plugin that fails is named on stderr."""
        settings = current_settings(ctx)
        if settings.plugin_commands is None:
            settings.plugin_commands = {} if settings.no_plugins else self._ask_plugins()
        return settings.plugin_commands

    def _ask_plugins(self) -> dict[str, click.Command]:
        from mtcore.plugins import find_plugins

        scratch = click.Group(commands=dict(self.commands))
        try:
            failures = [str(failure) for failure in find_plugins().add_commands(scratch)]
        except MtcoreError as error:  # a choice of plugins that cannot be understood
            failures = [str(error)]
        for failure in failures:
            click.echo(f"warning: {failure}", err=True)
        return {name: command for name, command in scratch.commands.items() if name not in self.commands}

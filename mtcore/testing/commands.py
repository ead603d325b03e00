"""CommandContract: what every plugin that adds commands to `mtopt` promises."""

from __future__ import annotations

from collections.abc import Sequence

import click
import pytest
from click.testing import CliRunner

from mtcore.plugins import find_plugins


class CommandContract:
    """Override the fixtures `plugin` (the module with the hooks) and `names`: the commands that it adds."""

    @pytest.fixture
    def plugin(self) -> object:
        raise NotImplementedError("override the fixture `plugin`: the module with the hooks")

    @pytest.fixture
    def names(self) -> Sequence[str]:
        raise NotImplementedError("override the fixture `names`: the commands that the plugin adds")

    @pytest.fixture
    def group(self, plugin: object) -> click.Group:
        """A group with the plugin's commands alone."""
        group = click.Group("mtopt")
        found = find_plugins([plugin], discover=False)
        failures = [*found.failures, *found.add_commands(group)]
        assert not failures, f"{failures[0]}\n{failures[0].traceback}"
        return group

    def test_it_adds_these_commands_and_no_other(self, group: click.Group, names: Sequence[str]) -> None:
        assert sorted(group.commands) == sorted(names), f"it adds {', '.join(group.commands) or 'nothing'}"

    def test_every_command_has_help_that_begins_with_a_line_for_the_listing(
        self, group: click.Group, names: Sequence[str]
    ) -> None:
        for name in names:
            command = group.commands[name]
            assert command.get_short_help_str(), f"{name} has no help; `mtopt --help` shows its first line"
            shown = CliRunner().invoke(group, [name, "--help"])
            assert shown.exit_code == 0, f"{name} --help ends with {shown.exit_code}: {shown.output}"
            assert "Example" in shown.output, f"{name} --help shows no example; put one into its epilog"

    def test_an_unknown_option_ends_with_2_and_names_it(self, group: click.Group, names: Sequence[str]) -> None:
        for name in names:
            result = CliRunner().invoke(group, [name, "--no-such-option"])
            assert result.exit_code == 2, f"{name} --no-such-option ends with {result.exit_code}, not with 2"
            assert "--no-such-option" in result.output, f"{name} does not name the option that it refuses"

"""A good command keeps the contract of commands; and the contract finds what is wrong with a bad one."""

import click
import pytest

from mtcore.hookspecs import hookimpl
from mtcore.testing import CommandContract


@click.command(epilog="Example:\n  mtopt greet")
def greet():
    """Greet."""


class Greets:
    @hookimpl
    def mtcore_add_commands(self, cli):
        cli.add_command(greet)


class TestGreet(CommandContract):
    @pytest.fixture
    def plugin(self):
        return Greets()

    @pytest.fixture
    def names(self):
        return ["greet"]


def group_of(command):
    return click.Group("mtopt", commands={command.name: command})


def test_a_command_without_help_is_found():
    bare = click.Command("bare", callback=lambda: None)
    with pytest.raises(AssertionError, match="bare has no help"):
        CommandContract().test_every_command_has_help_that_begins_with_a_line_for_the_listing(
            group_of(bare), ["bare"]
        )


def test_a_command_without_an_example_is_found():
    with pytest.raises(AssertionError, match="shows no example"):
        CommandContract().test_every_command_has_help_that_begins_with_a_line_for_the_listing(
            group_of(click.Command("plain", help="Do it.")), ["plain"]
        )


def test_a_command_that_takes_any_option_is_found():
    loose = click.Command("loose", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
    with pytest.raises(AssertionError, match="ends with 0, not with 2"):
        CommandContract().test_an_unknown_option_ends_with_2_and_names_it(group_of(loose), ["loose"])


def test_a_command_that_is_not_announced_is_found():
    with pytest.raises(AssertionError, match="it adds greet"):
        CommandContract().test_it_adds_these_commands_and_no_other(group_of(greet), [])

"""Commands that plugins add, and that no plugin can break the others."""

import click
import pytest

from mtcore.hookspecs import hookimpl
from mtcore.plugins import find_plugins


@pytest.fixture
def installed(monkeypatch):
    """Makes the given objects the plugins that are found."""

    def install(*plugins):
        found = find_plugins(plugins, discover=False)
        monkeypatch.setattr("mtcore.plugins.find_plugins", lambda: found)

    return install


class Greeter:
    @hookimpl
    def mtcore_add_commands(self, cli):
        cli.add_command(click.Command("hello", callback=lambda: click.echo("hello"), short_help="Says hello."))


class Broken:
    @hookimpl
    def mtcore_add_commands(self, cli):
        raise RuntimeError("no such library")


class Thief:
    @hookimpl
    def mtcore_add_commands(self, cli):
        cli.add_command(click.Command("plan", callback=lambda: None))


def test_a_command_of_a_plugin_runs_and_stands_in_the_help(installed, mtopt):
    installed(Greeter())
    assert mtopt("hello").out == "hello\n"
    assert "Says hello." in mtopt("--help").out


def test_a_broken_plugin_is_named_and_breaks_nothing(installed, mtopt):
    installed(Broken(), Greeter())
    shown = mtopt("hello")
    assert (shown.code, shown.out) == (0, "hello\n")
    assert "warning: plugin 'Broken'" in shown.err
    assert "no such library" in shown.err


def test_a_plugin_cannot_take_the_name_of_a_built_in_command(installed, mtopt):
    installed(Thief())
    shown = mtopt("--help")
    assert "Show what would be done to MODEL, and why." in shown.out
    assert "warning: plugin 'Thief'" in shown.err


def test_built_in_commands_do_not_ask_plugins(monkeypatch, mtopt):
    def fail():
        raise AssertionError("plugins were asked")

    monkeypatch.setattr("mtcore.plugins.find_plugins", fail)
    assert mtopt("plan", "--help").code == 0


def test_without_plugins_their_commands_are_unknown(installed, mtopt):
    installed(Greeter())
    assert mtopt("--no-plugins", "hello").code == 2


def test_a_choice_of_plugins_that_cannot_be_read_does_not_break_the_help(monkeypatch, mtopt):
    monkeypatch.setenv("MTCORE_PLUGINS", "perhaps")
    shown = mtopt("--help")
    assert shown.code == 0
    assert "warning: MTCORE_PLUGINS=perhaps" in shown.err

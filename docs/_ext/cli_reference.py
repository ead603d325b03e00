"""The directive `commands`: the help of `mtopt` and of every command, as a terminal of 100 columns shows it."""

from __future__ import annotations

from typing import Any

import click
from click.testing import CliRunner
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True}


class Commands(SphinxDirective):
    """One section a command, the built-in ones in the order of the help."""

    def run(self) -> list[nodes.Node]:
        return [section_of(words, text) for words, text in helps().items()]


def helps() -> dict[str, str]:
    """Words of a command → its help: mtcore's own in their order, then those of the installed plugins."""
    from mtcore.cli.main import mtopt
    from mtcore.cli.settings import Settings

    every = mtopt.list_commands(click.Context(mtopt, obj=Settings()))
    added = [word for word in every if word not in mtopt.commands]
    return {word: help_of(mtopt, word) for word in ("", *mtopt.commands, *added)}


def help_of(cli: click.Group, word: str) -> str:
    """What `mtopt WORD --help` prints."""
    runner = CliRunner(env={"NO_COLOR": "1"})
    result = runner.invoke(cli, [*word.split(), "--help"], prog_name="mtopt", terminal_width=100)
    assert result.exit_code == 0, result.output
    return result.output


def section_of(words: str, text: str) -> nodes.section:
    """A heading, and the help in a box."""
    name = f"mtopt {words}".strip()
    section = nodes.section(ids=[name.replace(" ", "-")], names=[name])
    section += nodes.title("", "", nodes.literal("", name))
    section += nodes.literal_block(text, text, language="text")
    return section

"""The directive `hooks`: every extension point with its kind, arguments and example, from mtcore.hookspecs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mtcore import hookspecs
from mtcore.plugins.checking import hook_names


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("hooks", Hooks)
    return {"parallel_read_safe": True}


class Hooks(SphinxDirective):
    """All hooks in the order of the page, each under a heading of its own."""

    def run(self) -> list[nodes.Node]:
        return [section for name in hook_names() for section in self._section(name)]

    def _section(self, name: str) -> list[nodes.Node]:
        section = nodes.section(ids=[name.replace("_", "-")], names=[name])
        section += nodes.title("", "", nodes.literal("", name))
        self.parse_into(section, [kind_of(name), ""])
        self.parse_into(section, ["```{eval-rst}", f".. autofunction:: mtcore.hookspecs.{name}", "```"])
        for described in section.findall(addnodes.desc):
            described["no-contents-entry"] = True  # the heading is one
        return [section]

    def parse_into(self, section: nodes.Element, lines: list[str]) -> None:
        """Parse Markdown into a section."""
        self.state.nested_parse(StringList(lines, source=self.get_source_info()[0]), 0, section)


def kind_of(name: str) -> str:
    """What kind of hook it is, in a sentence."""
    if name in hookspecs.RECORD_HOOKS:
        hook = hookspecs.RECORD_HOOKS[name]
        also = " A record's `aliases` count as names." if hook.aliases else ""
        return f"A `records` hook: yields `{public_name(hook.record)}`, kept in `Registry.{hook.catalog}`.{also}"
    if name in hookspecs.FIRST_RESULTS:
        return f"A `first` hook: returns `{public_name(hookspecs.FIRST_RESULTS[name])}` or None."
    return "Called for all plugins; returns nothing."


def public_name(record: str) -> str:
    """The name by which a plugin imports a record: that of its room, where this lists it."""
    module, _, name = record.partition(":")
    room = ".".join(module.split(".")[:2])
    return f"{room}.{name}" if name in getattr(import_module(room), "__all__", ()) else f"{module}.{name}"

"""The directive `public`: the names of a module's `__all__`, each documented in one place, where it belongs."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PAGES = Path(__file__).parents[1] / "reference" / "api"
DIRECTIVE = re.compile(r"^```\{public\} (\S+)$", re.MULTILINE)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("public", Public)
    return {"parallel_read_safe": True}


def public_modules() -> list[str]:
    """The modules that the pages name."""
    return sorted(
        name for page in PAGES.glob("*.md") for name in DIRECTIVE.findall(page.read_text(encoding="utf-8"))
    )


def homes(module: str) -> dict[str, str]:
    """Every name of a module that belongs to another public one → that one."""
    found = import_module(module)
    listed = {name: owner_of(getattr(found, name), name, module) for name in getattr(found, "__all__", ())}
    return {name: owner for name, owner in listed.items() if owner != module}


def owner_of(value: object, name: str, module: str) -> str:
    """The public module below which a value is defined, if that lists it too; else the one at hand."""
    defined = getattr(value, "__module__", None) or ""
    owners = [
        other
        for other in public_modules()
        if f"{defined}.".startswith(f"{other}.") and name in getattr(import_module(other), "__all__", ())
    ]
    return max(owners, key=len, default=module)


class Public(SphinxDirective):
    """Documents the module that is its argument."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module = self.arguments[0]
        elsewhere = homes(module)
        lines = ["```{eval-rst}", f".. automodule:: {module}", "   :members:"]
        lines += [f"   :exclude-members: {', '.join(elsewhere)}"] if elsewhere else []
        lines += ["```", ""]
        for owner in sorted(set(elsewhere.values())):
            names = ", ".join(f"`{name}`" for name, home in elsewhere.items() if home == owner)
            lines += [f"Also here, from `{owner}`: {names}.", ""]
        parent = nodes.Element()
        self.state.nested_parse(StringList(lines, source=self.get_source_info()[0]), 0, parent)
        return parent.children

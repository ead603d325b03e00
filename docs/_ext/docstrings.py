"""Docstrings: ours are plain text with `code` in single quotes; Sphinx reads reStructuredText. This translates."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

CODE = re.compile(r"(`+)(.+?)\1")
MARKUP = re.compile(r"([*|\\]|(?<=\w)_(?=\W|$))")
"""What reStructuredText takes for emphasis, substitutions, escapes and references."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Translate before napoleon (priority 500) reads the sections."""
    app.connect("autodoc-process-docstring", translate, priority=100)
    return {"parallel_read_safe": True}


def translate(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Translate the lines of one docstring in place; code and examples stay as they are."""
    if what in ("attribute", "data", "property"):
        lines.insert(0, "\\")  # an empty piece of text: napoleon takes what stands before a colon there for a type
    in_example = in_code = False
    for number, line in enumerate(lines):
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        in_code = in_code and (not line.strip() or line.startswith("    "))
        if not in_example and not in_code:
            in_code = (
                line.rstrip().endswith(":") and lines[number + 1 : number + 2] == [""] and _indented(lines, number)
            )
            lines[number] = line if line == "\\" else plain(line) + ":" * in_code


def _indented(lines: list[str], number: int) -> bool:
    """Whether what comes after the blank line is indented: a piece of code."""
    return number + 2 < len(lines) and lines[number + 2].startswith("    ") and not lines[number].startswith(" ")


def plain(line: str) -> str:
    """One line of text for reStructuredText."""
    parts, end = [], 0
    for code in CODE.finditer(line):
        parts += [MARKUP.sub(r"\\\1", line[end : code.start()]), f"``{code.group(2)}``"]
        end = code.end()
    return "".join([*parts, MARKUP.sub(r"\\\1", line[end:])])

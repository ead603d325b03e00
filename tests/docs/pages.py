"""The pages of the documentation, and the fenced blocks of code on them."""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```[ ]*$", re.DOTALL | re.MULTILINE)
REASON = re.compile(r"<!-- not run: .+ -->\s*$")


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, the line on which the text starts, and why it is not run.

    `reason` is what a comment `<!-- not run: … -->` right before the fence says; "" without one.
    """

    language: str
    text: str
    line: int
    reason: str


def pages() -> list[Path]:
    """Every page that a reader meets; not what a new plugin is made from."""
    written = [path for path in ROOT.glob("docs/**/*.md") if "_build" not in path.parts]
    readmes = [path for path in ROOT.glob("*/*/README.md") if not path.parent.name.startswith(("_", "."))]
    return sorted([*written, *ROOT.glob("*.md"), *readmes])


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in FENCE.finditer(text):
        before = text[: fence.start()]
        reason = REASON.search(before)
        line = text.count("\n", 0, fence.start(3)) + 1
        body = fence[3] if not fence[1] else re.sub(f"^{fence[1]}", "", fence[3], flags=re.MULTILINE)
        found.append(Block(fence[2].strip(), body, line, reason[0] if reason else ""))
    return found


def program(parts: list[Block]) -> str:
    """The blocks as one Python program in which every line has the number that it has on the page."""
    lines: list[str] = []
    for part in parts:
        lines += [""] * (part.line - 1 - len(lines)) + part.text.splitlines()
    return "\n".join(lines) + "\n"


def name_of(page: Path) -> str:
    """A page for humans: its path in the repository."""
    return str(page.relative_to(ROOT))


def public_modules() -> list[str]:
    """The modules of the API reference; what they list in `__all__` is public."""
    written = "\n".join(page.read_text(encoding="utf-8") for page in ROOT.glob("docs/reference/api/*.md"))
    return re.findall(r"^```\{public\} (\S+)$", written, re.MULTILINE)


WITHOUT_ALL = {"mtcore.errors", "mtcore.hookspecs"}
"""Public modules that list no names: all that do not begin with _ are meant."""


def private_imports(source: str) -> list[str]:
    """What a piece of Python imports from mtcore that is not public."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.startswith("mtcore.")]
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "mtcore":
            found += [f"{node.module}.{a.name}" for a in node.names if not _is_public(node.module or "", a.name)]
    return found


def _is_public(module: str, name: str) -> bool:
    if name.startswith("_") or module not in {*public_modules(), "mtcore.hookspecs"}:
        return False
    found = importlib.import_module(module)
    return name in getattr(found, "__all__", dir(found) if module in WITHOUT_ALL else ())

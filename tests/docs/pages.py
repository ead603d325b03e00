"""The pages of the documentation, and the fenced blocks of code on them."""

from __future__ import annotations

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
    """Every page that a reader meets."""
    written = [path for path in ROOT.glob("docs/**/*.md") if "_build" not in path.parts]
    return sorted([*written, *ROOT.glob("*.md"), *ROOT.glob("*/*/README.md")])


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

"""Extraction: turns one raw file into clean plain text."""

from __future__ import annotations

import ast
import gzip
import html
import json
import re
import warnings
from collections.abc import Iterator

import lxml.html

BLOCK = {
    "p", "div", "section", "article", "li", "ul", "ol", "dl", "dt", "dd", "tr", "table", "pre", "br",
    "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "hr", "main", "body", "figure", "figcaption",
}  # fmt: skip
DROP = (
    "//script|//style|//nav|//header|//footer|//svg|//button|//form|//*[contains(@class,'sphinxsidebar')"
    " or contains(@class,'headerlink') or contains(@class,'related') or contains(@class,'navheader')"
    " or contains(@class,'navfooter') or contains(@class,'toc') or contains(@class,'sidebar')"
    " or contains(@class,'footer') or contains(@class,'linenos') or contains(@class,'mobile-nav')"
    " or contains(@class,'item-table') or contains(@class,'src-link') or contains(@class,'impl-items')"
    " or @id='preamble' or @id='path' or @id='quickview' or @id='leftnav' or @id='toc'"
    " or @id='synthetic-implementations' or @id='blanket-implementations' or @id='trait-implementations']"
)
MAIN = ("//*[@role='main']", "//main", "//article", "//*[@id='docs-content']", "//body")


def documents(kind: str, path: str, raw: bytes) -> Iterator[tuple[str, str]]:
    """Yield (name, text) for each document in a raw file; `kind` is the source's kind."""
    if kind in ("wheel", "installed", "stdlib"):
        yield path, _docstrings(raw)
    elif kind == "botocore":
        yield path, _service(json.loads(gzip.decompress(raw)))
    elif path.endswith(".html"):
        yield path, _html(raw)
    elif path.endswith(".dict.dz"):
        yield from _dictionary(gzip.decompress(raw).decode("utf-8", "replace"))
    else:
        yield path, raw.decode("utf-8", "replace")


def _docstrings(raw: bytes) -> str:
    """Every docstring of a Python file, each under its signature."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(raw)
        except (SyntaxError, ValueError):  # a template, or a file for another Python version
            return ""
    parts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            doc = ast.get_docstring(node)
            if not doc or len(doc) < 60:
                continue
            if isinstance(node, ast.Module):
                parts.append(doc)
            elif isinstance(node, ast.ClassDef):
                parts.append(f"class {node.name}\n\n{doc}")
            else:
                parts.append(f"{node.name}({ast.unparse(node.args)})\n\n{doc}")
    return "\n\n".join(parts)


def _html(raw: bytes) -> str:
    if not raw.strip():
        return ""
    tree = lxml.html.fromstring(raw)
    for node in tree.xpath(DROP):
        if node.getparent() is not None:
            node.drop_tree()
    for selector in MAIN:
        found = tree.xpath(selector)
        if found:
            return _text(found[0])
    return ""


def _text(root: lxml.html.HtmlElement) -> str:
    out: list[str] = []

    def walk(node: lxml.html.HtmlElement, pre: bool) -> None:
        tag = node.tag if isinstance(node.tag, str) else None
        block, pre = tag in BLOCK, pre or tag == "pre"
        if block:
            out.append("\n" if tag in ("br", "tr", "li") else "\n\n")
        if tag is not None and node.text:
            out.append(node.text if pre else re.sub(r"\s+", " ", node.text))
        if tag is not None:
            for child in node:
                walk(child, pre)
                if child.tail:
                    out.append(child.tail if pre else re.sub(r"\s+", " ", child.tail))
        if tag in ("td", "th"):
            out.append(" ")
        if block:
            out.append("\n" if tag in ("br", "tr", "li") else "\n\n")

    walk(root, False)
    return "".join(out)


def _service(model: dict[str, object]) -> str:
    """The documentation of a service's operations and shapes."""
    parts: list[str] = []

    def visit(name: str, node: object) -> None:
        if isinstance(node, dict):
            text = node.get("documentation")
            if isinstance(text, str) and len(text) > 60:
                plain = html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"</?(p|li|ul|note|dl|dd)>", "\n", text)))
                parts.append(f"{name}: " + re.sub(r"\s*\n\s*", "\n", plain).strip())
            for key, child in node.items():
                visit(key, child)

    visit(str(model.get("metadata", {}).get("serviceFullName", "")), model)  # type: ignore[attr-defined]
    return "\n\n".join(parts)


def _dictionary(text: str) -> Iterator[tuple[str, str]]:
    """Twenty entries make a document: one entry is too short to be one."""
    entries = re.split(r"\n(?=\S)", text)
    for start in range(0, len(entries), 20):
        yield f"entries-{start:05d}", "\n\n".join(entries[start : start + 20])

"""A new plugin: a copy of the template under another name, with the parts that its author wants."""

from __future__ import annotations

import ast
import importlib.util
import keyword
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mtcore.errors import PluginError

TEMPLATE = Path(__file__).parent / "template"
"""A working plugin, tested as it stands; in a checkout a link to `plugins/_template`."""

DISTRIBUTION, PACKAGE, WORD = "mtopt-template", "mtopt_template", "template"
"""The names of the template: its distribution, its package, and the word in its entry point and its records."""

PARTS = {
    "command": ("commands", ("mtcore_add_commands",)),
    "recipe": ("recipes", ("mtcore_recipes",)),
    "format": ("formats", ("mtcore_formats",)),
    "layer": ("layers", ("mtcore_quant_modules", "mtcore_symbols")),
    "trace-rule": ("trace_rules", ("mtcore_trace_rules",)),
    "kernel": ("kernels", ("mtcore_kernels",)),
    "algorithm": ("algorithms", ("mtcore_algorithms",)),
    "searcher": ("searchers", ("mtcore_searchers",)),
    "exporter": ("exporters", ("mtcore_exporters",)),
    "client": ("clients", ("mtcore_clients", "mtcore_lint_rules")),
    "loader": ("loader", ("mtcore_load_model", "mtcore_example_inputs", "mtcore_calibration_batches")),
    "phases": ("phases", ("mtcore_before_phase", "mtcore_after_phase")),
}
"""What a plugin may have: part → its file, and the hooks that give it to mtcore."""

N = TypeVar("N", bound=ast.stmt | ast.expr)

_GENERATED = shutil.ignore_patterns("__pycache__", "*.egg-info", ".pytest_cache", "build", "dist", ".venv")


@dataclass(frozen=True)
class NewPlugin:
    """A plugin that was written.

    Attributes:
        name: of the distribution.
        package: what is imported.
        parts: what it has, among `PARTS`.
        directory: where it lies.
        files: in it, relative to the directory.
    """

    name: str
    package: str
    parts: tuple[str, ...]
    directory: Path
    files: tuple[str, ...]


def new_plugin(name: str, directory: Path | None = None, parts: Collection[str] = tuple(PARTS)) -> NewPlugin:
    """Write a plugin that installs, is found and passes its tests as it is. All or nothing is written.

    Args:
        name: of the distribution: lower-case words joined by "-", such as "acme-quant".
        directory: that comes to be; default: `name`, here.
        parts: what it has; see `PARTS`.

    Raises:
        PluginError: a name that cannot be used, an unknown part, or a directory that exists.
    """
    package = _package(name)
    chosen = _chosen(parts)
    directory = Path(name) if directory is None else directory
    if directory.exists():
        raise PluginError(f"{directory} exists already; choose another --directory, or remove it")
    try:
        directory.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=directory.absolute().parent) as scratch:
            made = Path(scratch) / "plugin"
            shutil.copytree(TEMPLATE, made, ignore=_GENERATED)
            _drop(made, set(PARTS) - set(chosen))
            _rename(made, name, package)
            files = tuple(sorted(str(file.relative_to(made)) for file in made.rglob("*") if file.is_file()))
            os.rename(made, directory)
    except OSError as error:
        raise PluginError(f"{directory} cannot be written: {error.strerror or error}") from error
    return NewPlugin(name, package, chosen, directory, files)


def _package(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise PluginError(f"{name!r} is no name for a plugin; write lower-case words joined by -, like acme-quant")
    package = name.replace("-", "_")
    if keyword.iskeyword(package) or name == "mtcore" or importlib.util.find_spec(package) is not None:
        raise PluginError(f"{name!r} cannot be used: something that is imported as {package!r} exists already")
    return package


def _chosen(parts: Collection[str]) -> tuple[str, ...]:
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        what = f"no part {unknown[0]!r}" if unknown else "a plugin without parts does nothing"
        raise PluginError(f"{what}; choose among {', '.join(PARTS)}")
    return tuple(part for part in PARTS if part in parts)


def _drop(plugin: Path, parts: Collection[str]) -> None:
    """Remove parts: their file, their test and their hooks."""
    source = plugin / "src" / PACKAGE
    for part in parts:
        file, _ = PARTS[part]
        (source / f"{file}.py").unlink()
        (plugin / "tests" / f"test_{file}.py").unlink()
    hooks = source / "hooks.py"
    gone = {hook for part in parts for hook in PARTS[part][1]}
    hooks.write_text(_without(hooks.read_text(encoding="utf-8"), gone), encoding="utf-8")


def _without(source: str, functions: Collection[str]) -> str:
    """Python source less some functions, and less the imported names that nothing uses any more."""
    kept = _replaced(source, {node: "" for node in _nodes(source, ast.FunctionDef) if node.name in functions})
    used = {node.id for node in _nodes(kept, ast.Name)}
    imports: dict[ast.stmt, str] = {}
    found: list[ast.Import | ast.ImportFrom] = [*_nodes(kept, ast.Import), *_nodes(kept, ast.ImportFrom)]
    for node in found:
        names = [alias for alias in node.names if alias.name == "annotations" or alias.name in used]
        if names != node.names:
            node.names = names
            imports[node] = f"{' ' * node.col_offset}{ast.unparse(node)}\n" if names else ""
    kept = re.sub(r"(if TYPE_CHECKING:\n)\n+", r"\1", _replaced(kept, imports))
    return re.sub(r"\n{4,}", "\n\n\n", kept).rstrip() + "\n"


def _nodes(source: str, kind: type[N]) -> list[N]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, kind)]


def _replaced(source: str, texts: Mapping[N, str]) -> str:
    """Source with other text where some statements stand, decorators included."""
    lines = source.splitlines(keepends=True)
    for node, text in texts.items():
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))]) - 1
        last = node.end_lineno or node.lineno
        lines[first:last] = [text] + [""] * (last - first - 1)
    return "".join(lines)


def _rename(plugin: Path, name: str, package: str) -> None:
    """Give the template's distribution, package, entry point and records their new names."""
    word = name.removeprefix("mtopt-")
    (plugin / "src" / PACKAGE).rename(plugin / "src" / package)
    for file in plugin.rglob("*"):
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            for old, new in ((DISTRIBUTION, name), (PACKAGE, package), (WORD, word)):
                text = text.replace(old, new)
            file.write_text(text, encoding="utf-8")

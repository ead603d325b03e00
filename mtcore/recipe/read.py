"""Reading a recipe: YAML text with the line of every value, or a mapping made plain."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from mtcore.errors import RecipeError
from mtcore.recipe.document import Document, KeyPath, Plain, Problems

MAX_VALUES = 100_000
"""More values than this are an attack (aliases of aliases) or a mistake, not a recipe."""
MAX_DEPTH = 64
"""Likewise for nesting; it also bounds recursion."""

_MAP, _SEQUENCE = "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"


def read_file(path: Path, problems: Problems) -> Document | None:
    """Read a YAML or JSON file; None, with the problem noted, if that is impossible."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        problems.add(str(path), f"the recipe cannot be read: {reason}")
        return None
    document = read_yaml(text, title=path.name, problems=problems, folder=path.parent)
    return replace(document, is_file=True) if document else None


def read_yaml(text: str, *, title: str, problems: Problems, folder: Path = Path()) -> Document | None:
    """Read YAML text; None, with every problem noted, if it is not plain data."""
    reader = _Reader(title, problems)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problems.add(f"{title}{line}", f"not valid YAML: {error.problem or error.context}")
        return None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).replace("\n", " ")
        problems.add(title, f"not valid YAML: {reason}")
        return None
    data = reader.value(node, ()) if node is not None else {}
    return None if reader.failed else Document(title, data, reader.lines, folder)


def read_mapping(source: Mapping[object, object], *, title: str, problems: Problems) -> Document | None:
    """Copy a mapping as plain data: tuples become lists. None, with the problem noted, if a value is not plain."""
    copier = _Copier(title, problems)
    data = copier.value(source, ())
    return None if copier.failed else Document(title, data)


@dataclass
class _Walk:
    """What the two readers share: counting, and noting a problem with its place."""

    title: str
    problems: Problems
    lines: dict[KeyPath, int] = field(default_factory=dict)
    failed: bool = False
    _seen: int = 0

    def note(self, path: KeyPath, message: str) -> None:
        self.failed = True
        self.problems.add(Document(self.title, None, self.lines).place(path), message)

    def count(self, path: KeyPath) -> None:
        self._seen += 1
        if self._seen > MAX_VALUES or len(path) > MAX_DEPTH:
            limit = f"nested over {MAX_DEPTH} deep" if len(path) > MAX_DEPTH else f"over {MAX_VALUES} values"
            raise RecipeError([f"{self.title}: {limit}; that is no recipe"])


@dataclass
class _Reader(_Walk):
    loader: yaml.SafeLoader = field(default_factory=lambda: yaml.SafeLoader(""))

    def value(self, node: yaml.Node, path: KeyPath) -> Plain:
        self.lines[path] = node.start_mark.line + 1
        self.count(path)
        if isinstance(node, yaml.MappingNode) and node.tag == _MAP:
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQUENCE:
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self.note(path, f"YAML tag {node.tag} is not plain data")
        return None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> Plain:
        result: dict[str | int, Plain] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node, path) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str | int) or isinstance(key, bool):
                self.note(path, f"a key in line {key_node.start_mark.line + 1} is neither a text nor a number")
            elif key in result:
                self.note((*path, key), f"the key stands again in line {key_node.start_mark.line + 1}")
            else:
                result[key] = self.value(value_node, (*path, key))
                self.lines[*path, key] = key_node.start_mark.line + 1
        return result

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Plain:
        try:
            value = self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            self.note(path, f"{node.value!r} is not a value that YAML knows: {error}".replace("\n", " "))
            return None
        if value is None or isinstance(value, bool | int | float | str):
            return value
        self.note(path, f"{node.value!r} is a {type(value).__name__}, not plain data; put it in quotes")
        return None


class _Copier(_Walk):
    def value(self, source: object, path: KeyPath) -> Plain:
        self.count(path)
        if source is None or isinstance(source, bool | int | float | str):
            return source
        if isinstance(source, Mapping):
            return {self._key(key, path): self.value(item, (*path, str(key))) for key, item in source.items()}
        if isinstance(source, list | tuple):
            return [self.value(item, (*path, index)) for index, item in enumerate(source)]
        self.note(path, f"a value of type {type(source).__name__} is not plain data")
        return None

    def _key(self, key: Hashable, path: KeyPath) -> str | int:
        if isinstance(key, str | int) and not isinstance(key, bool):
            return key
        self.note(path, f"key {key!r} is neither a text nor a number")
        return ""

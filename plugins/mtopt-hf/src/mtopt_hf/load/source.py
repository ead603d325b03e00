"""What a user's source string means: a checkpoint directory, a configuration, a GGUF file, or a name on the hub."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from mtcore.errors import ModelError

GGUF_MAGIC = b"GGUF"
PACKAGE_PREFIX = "package:"
CONFIG_PREFIX = "config:"
CODE_PREFIX = "with-code:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Directory:
    """A directory on this machine; `code`: whether Python files in it may run."""

    path: Path
    code: bool = False


@dataclass(frozen=True)
class ConfigOnly:
    """A directory of which only the configuration is read."""

    path: Path


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file on this machine."""

    path: Path


@dataclass(frozen=True)
class HubName:
    """`organisation/model` on a model hub; `code` as above."""

    name: str
    code: bool = False


Source = Directory | ConfigOnly | GgufFile | HubName


def understand_source(source: str) -> Source | None:
    """What `source` names, or None where it is nothing that this plugin opens.

    A path that exists always wins over a hub name. `package:NAME` is an installed Python package that
    carries a GGUF file in pieces and has a function `assemble() -> path`; the package is imported.
    `config:PATH` is a config.json, or the directory that holds one, without its weights. `with-code:` before a
    directory or a name on the hub lets the model's own Python files run.

    Raises:
        ModelError: the source is one of ours but does not exist.
    """
    if source.startswith(PACKAGE_PREFIX):
        return GgufFile(_assembled(source.removeprefix(PACKAGE_PREFIX)))
    if source.startswith(CONFIG_PREFIX):
        return ConfigOnly(_with_config(source))
    if source.startswith(CODE_PREFIX):
        return _with_code(source)
    path = Path(source).expanduser()
    if path.is_dir():
        return Directory(path)
    if path.is_file():
        return GgufFile(path) if _is_gguf(path) else None
    if path.suffix == ".gguf":
        raise ModelError(f"{source}: no such file")
    if _HUB_ID.fullmatch(source) and not source.startswith("."):
        return HubName(source)
    return None


def _with_code(source: str) -> Source:
    meaning = understand_source(source.removeprefix(CODE_PREFIX))
    if not isinstance(meaning, (Directory, HubName)):
        raise ModelError(f"{source}: {CODE_PREFIX} goes before a directory or a name on the hub")
    return replace(meaning, code=True)


def _with_config(source: str) -> Path:
    path = Path(source.removeprefix(CONFIG_PREFIX)).expanduser()
    if path.is_dir():
        return path
    if path.is_file() and path.name == "config.json":
        return path.parent
    raise ModelError(
        f"{source}: no such directory or config.json; only a configuration on this machine can be read"
    )


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(GGUF_MAGIC)) == GGUF_MAGIC or path.suffix == ".gguf"


def _assembled(package: str) -> Path:
    name = package.replace("-", "_")
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        raise ModelError(f"{PACKAGE_PREFIX}{package}: {error}; install it with `pip install {package}`") from error
    assemble = getattr(module, "assemble", None)
    if not callable(assemble):
        raise ModelError(f"{PACKAGE_PREFIX}{package}: the package has no function assemble() that gives a file")
    try:
        return Path(assemble())
    except (OSError, ValueError) as error:
        raise ModelError(f"{PACKAGE_PREFIX}{package}: its pieces could not be joined: {error}") from error

"""A checkpoint directory by its headers and JSON files: what a linter, a converter and a loader see of it first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from mtcore.errors import ModelError
from mtcore.lint.headers import Fault, TensorInfo, read_header
from mtcore.lint.json_files import read_object
from mtcore.lint.values import Values

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
CONFIG = "config.json"

Derived = TypeVar("Derived")


class Checkpoint:
    """What a directory says about itself. Opening one never fails for what lies in it: that is in `faults`.

    Attributes:
        folder: the directory.
        files: names of the safetensors files that belong to it, in the order of their names.
        tensors: by name; of a name that two files hold, the first.
        faults: what is wrong with the files themselves.
        has_values: False for a rehearsal, whose files have headers and no data.

    Example:
        >>> from mtcore.lint import open_checkpoint
        >>> open_checkpoint("docs").faults[0].kind
        'weights-missing'
    """

    def __init__(self, folder: Path, *, has_values: bool, everything: bool) -> None:
        self.folder, self.has_values = folder, has_values
        self._faults: list[Fault] = []
        self._json: dict[str, dict[str, Any] | None] = {}
        self._derived: dict[Callable[[Checkpoint], Any], Any] = {}
        self.values = Values(folder, everything=everything)
        self.weight_map = self._weight_map()
        self.files = tuple(self._files())
        self.tensors: Mapping[str, TensorInfo] = self._read_headers()
        self._check_map()

    @property
    def faults(self) -> tuple[Fault, ...]:
        return tuple(self._faults)

    @property
    def config(self) -> Mapping[str, Any]:
        """config.json; empty where it cannot be read, which then is a fault."""
        return self.json(CONFIG) or {}

    def json(self, name: str) -> dict[str, Any] | None:
        """The object in a JSON file; None where there is no such file, or none that can be read."""
        if name not in self._json:
            self._json[name] = self._read_json(name)
        return self._json[name]

    def derive(self, make: Callable[[Checkpoint], Derived]) -> Derived:
        """What `make` gives for this checkpoint, worked out once."""
        if make not in self._derived:
            self._derived[make] = make(self)
        found: Derived = self._derived[make]
        return found

    def _fault(self, kind: str, where: str, why: str, todo: str) -> None:
        self._faults.append(Fault(kind, where, why, todo))

    def _read_json(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        if not (path.exists() or path.is_symlink()) or self._outside(name):
            return None
        try:
            return read_object(path)
        except ValueError as error:
            self._fault("json-unreadable", name, str(error), "write it again")
            return None

    def _weight_map(self) -> Mapping[str, str] | None:
        """Tensor → file as the index has it; None without an index."""
        if not os.path.lexists(self.folder / INDEX):
            return None
        found = (self.json(INDEX) or {}).get("weight_map")
        if not isinstance(found, dict) or not found:
            if self.json(INDEX) is not None:
                self._fault("json-unreadable", INDEX, "it has no weight_map", "write the index again")
            return None
        odd = [file for file in found.values() if not isinstance(file, str) or not file]
        if odd:
            self._fault("json-unreadable", INDEX, f"its weight_map names {odd[0]!r}", "write the index again")
            return None
        return found

    def _files(self) -> Iterator[str]:
        present = sorted(name for name in os.listdir(self.folder) if name.endswith(".safetensors"))
        if (self.folder / SINGLE).exists():
            chosen = [SINGLE]  # where both are there, most clients take the single file
        elif self.weight_map is not None:
            chosen = sorted(set(self.weight_map.values()))
        else:
            chosen = present
        for name in chosen:
            if not self._outside(name):
                yield name
        unused = sorted(set(present) - set(chosen))
        if unused:
            why = "no index names it, but some clients read every safetensors file"
            self._fault("shards-left-over", unused[0], why, "remove it, or write the index again")
        if not chosen:
            self._no_weights()

    def _no_weights(self) -> None:
        pickles = sorted(name for name in os.listdir(self.folder) if name.endswith((".bin", ".pt", ".pth")))
        if pickles:
            why = "its weights are pickle files, which can run code when they are opened"
            self._fault("weights-pickle", pickles[0], why, "convert them to safetensors first")
        else:
            self._fault("weights-missing", ".", f"it has neither {SINGLE} nor {INDEX}", "name another directory")

    def _outside(self, name: str) -> bool:
        """Whether a name leads out of the directory; hub caches link to `blobs` beside their snapshots."""
        if any(mark in name for mark in "/\\\0") or name in ("", ".", "..") or len(name.encode()) > 255:
            why = f"it names {name[:200]!r}; shards lie beside their index"
            self._fault("path-outside", INDEX, why, "write it again")
            return True
        target, home = Path(os.path.realpath(self.folder / name)), Path(os.path.realpath(self.folder))
        allowed = [home] + ([home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [])
        if any(target.is_relative_to(place) for place in allowed):
            return False
        self._fault("link-outside", name, f"it is a link to {target}, outside of the directory", "copy the file")
        return True

    def _read_headers(self) -> dict[str, TensorInfo]:
        tensors: dict[str, TensorInfo] = {}
        for name in self.files:
            if not (self.folder / name).exists():
                self._fault("file-missing", name, "the index names this file, but it is missing", "fetch it again")
                continue
            found, faults = read_header(self.folder / name, name)
            self._faults += faults
            for tensor in found:
                first = tensors.setdefault(tensor.name, tensor)
                if first is not tensor:
                    why = f"{first.file} and {name} both hold it; clients take either"
                    self._fault("tensor-duplicate", tensor.name, why, "remove one of the two")
        return tensors

    def _check_map(self) -> None:
        if self.weight_map is None or SINGLE in self.files:
            return
        broken = {fault.where.partition(":")[0] for fault in self._faults}
        for name, file in self.weight_map.items():
            tensor = self.tensors.get(name)
            if (tensor is None or tensor.file != file) and file not in broken and file in self.files:
                where = "no file has it" if tensor is None else f"it lies in {tensor.file}"
                self._fault("index-wrong", name, f"the index puts it into {file}, but {where}", "write it again")
        for name, tensor in self.tensors.items():
            if name not in self.weight_map:
                why = f"{tensor.file} holds it, but the index does not list it; some clients never load it"
                self._fault("index-incomplete", name, why, "write the index again")


def open_checkpoint(folder: str | Path, *, has_values: bool = True, everything: bool = False) -> Checkpoint:
    """Read the headers and the index of a directory.

    Args:
        folder: the directory.
        has_values: False where the files have headers and no data.
        everything: have `values.facts` read all of every tensor that it is asked for, not only pieces of it.

    Raises:
        ModelError: it is no directory.
    """
    path = Path(folder).expanduser()
    if path.exists() and not path.is_dir():
        raise ModelError(f"{folder}: not a directory; name the one that holds the checkpoint")
    if not path.is_dir():
        raise ModelError(f"{folder}: no such directory; a checkpoint on a hub has to be fetched first")
    checkpoint = Checkpoint(path, has_values=has_values, everything=everything)
    checkpoint.json(CONFIG)  # so that its faults stand with the others
    return checkpoint

"""The statistics store: what one run of the data told, in a directory, for runs that decide again without data."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtcore.calibration.statistics.needs import Needs, Site, Wanted
from mtcore.calibration.statistics.record import TensorStatistics
from mtcore.errors import StateError
from mtcore.files import TensorFile, drop_pages, save_tensors, write_json

VERSION = 2
_MANIFEST, _PARTIAL, _TRACE = "statistics.json", "unfinished.json", "trace.json"
_TENSORS = tuple(
    f.name for f in fields(TensorStatistics) if f.name not in ("tokens", "batches", "stride", "block_counts")
)


@dataclass(frozen=True)
class Unfinished:
    """Statistics of the first `batches` batches, and what was being gathered."""

    wanted: dict[Site, Needs]
    batches: int
    known: dict[Site, TensorStatistics]


@dataclass
class StatisticsStore:
    """Statistics by site in a directory: safetensors files, and a manifest that names them. No pickle.

    What is added at a time lies in a file of its own. Every file appears whole; the manifest comes last. So a crash
    or a full disk leaves what was there before.

    Attributes:
        directory: where they lie; made when something is written.
        key: hashes of what they are statistics of, by what a user calls it: "weights", "data", "code".
        known: the statistics, as views of their files, which take memory only while they are used; see `let_go`.
        products: whether a run on data shall keep Σ x xᵀ of what linear layers read, whatever its recipe asks for.
        writes: whether this process writes; of several that gather together, one does.
    """

    directory: Path
    key: dict[str, str]
    known: dict[Site, TensorStatistics] = field(default_factory=dict)
    products: bool = False
    writes: bool = True
    _parts: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def open(cls, directory: Path, key: Mapping[str, str]) -> StatisticsStore:
        """The store of a directory; an empty one where the directory does not exist yet.

        Args:
            key: what is to hold. A part that is left out may be any, and is taken over from the manifest.

        Raises:
            StateError: the statistics there are of something else, which is named; or are damaged.
        """
        found = _read(directory / _MANIFEST)
        if found is None:
            return cls(directory, dict(key))
        _check(directory, found["key"], key)
        store = cls(directory, {**found["key"], **key})
        for part in _parts_of(directory, found):
            store.known.update(_load(directory, part))
            store._parts.append(part)
        return store

    def add(self, found: Mapping[Site, TensorStatistics]) -> None:
        """Keep more statistics, on the disk too.

        Raises:
            StateError: the disk is full, or the directory cannot be written.
        """
        if not self.writes:
            self.known.update(found)
            return
        with self._writing():
            parts = [
                {**part, "sites": [s for s in part["sites"] if _site(s["site"]) not in found]}
                for part in self._parts
            ]
            parts = [part for part in parts if part["sites"]]
            if found:
                parts.append(self._save(_MANIFEST, found))
            self._write(_MANIFEST, {"parts": parts})
            self._remove(_PARTIAL)
        self._parts = parts
        self.known.update(_load(self.directory, parts[-1], check=False) if found else {})

    def let_go(self, sites: Iterable[Site]) -> None:
        """Of the memory that reading these statistics took."""
        for site in sites:
            for _, tensor in _tensors(self.known[site]):
                drop_pages(tensor)

    def keep_unfinished(self, unfinished: Unfinished) -> None:
        """Keep what an interrupted run of the data has gathered, for the next run of the same data."""
        wanted = [{"site": list(site), "needs": asdict(needs)} for site, needs in unfinished.wanted.items()]
        with self._writing():
            part = self._save(_PARTIAL, unfinished.known)
            self._write(_PARTIAL, {"parts": [part], "wanted": wanted, "batches": unfinished.batches})

    def unfinished(self, wanted: Wanted) -> Unfinished | None:
        """What an interrupted run of the same data left, if it gathered the same."""
        found = _read(self.directory / _PARTIAL)
        if found is None or found["key"] != self.key:
            return None
        asked = _wanted(found)
        if asked != dict(wanted):
            return None
        (part,) = _parts_of(self.directory, found)
        return Unfinished(asked, found["batches"], _load(self.directory, part))

    def tidy(self) -> None:
        """Remove what a kill left and nobody will read: files without a manifest, and work that was done later.

        Raises:
            StateError: the directory cannot be written.
        """
        if not self.directory.exists():
            return
        found = _read(self.directory / _PARTIAL)
        parts = [] if found is None else _parts_of(self.directory, found)
        with self._writing():
            self._keep_only(_MANIFEST, [part["file"] for part in self._parts])
            if found is not None and found["key"] == self.key and self._done(found, parts):
                self._remove(_PARTIAL)
            else:
                self._keep_only(_PARTIAL, [part["file"] for part in parts])

    def _done(self, found: Mapping[str, Any], parts: Iterable[Mapping[str, Any]]) -> bool:
        """Whether all that an unfinished run had reached is known."""
        wanted = _wanted(found)
        reached = [_site(item["site"]) for part in parts for item in part["sites"]]
        return all(site in self.known and self.known[site].covers(wanted[site]) for site in reached)

    def trace(self) -> str | None:
        """The trace that was kept with the statistics, as JSON."""
        found = _read(self.directory / _TRACE)
        return found["trace"] if found is not None and found["key"].get("weights") == self.key["weights"] else None

    def keep_trace(self, trace: str) -> None:
        """Keep a trace of the same weights."""
        if not self.writes:
            return
        with self._writing():
            write_json(self.directory / _TRACE, {"version": VERSION, "key": self.key, "trace": trace})

    def _save(self, name: str, known: Mapping[Site, TensorStatistics]) -> dict[str, Any]:
        """Write statistics to a file of their own; what a manifest says of it."""
        records: dict[int, int] = {}  # statistics that several sites share are written once
        tensors: dict[str, Tensor] = {}
        facts: list[dict[str, int]] = []
        sites: list[dict[str, Any]] = []
        for site, statistics in known.items():
            if id(statistics) not in records:
                records[id(statistics)] = number = len(facts)
                facts.append(
                    {"tokens": statistics.tokens, "batches": statistics.batches, "stride": statistics.stride}
                )
                parts = {part: tensor.detach().cpu().contiguous() for part, tensor in _tensors(statistics)}
                tensors |= {f"{number}.{part}": tensor for part, tensor in parts.items()}
            sites.append({"site": list(site), "record": records[id(statistics)]})
        place = self.directory / f"{Path(name).stem}-{_digest(tensors)}.safetensors"
        save_tensors(place, sorted(tensors), tensors)
        return {"file": place.name, "records": facts, "sites": sites}

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        """The manifest; files that it does not name are removed."""
        write_json(self.directory / name, {"version": VERSION, "key": self.key, **content})
        named = {part["file"] for part in content["parts"]}
        self._keep_only(name, named)

    def _remove(self, name: str) -> None:
        (self.directory / name).unlink(missing_ok=True)
        self._keep_only(name, ())

    def _keep_only(self, name: str, named: Collection[str]) -> None:
        """Remove the files of a manifest that it does not name, those that a kill left half written, too."""
        for file in self.directory.glob(f"{Path(name).stem}-*.safetensors*"):
            if file.name not in named:
                file.unlink()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
            why = "the disk is full" if full else str(error.strerror or error)
            raise StateError(
                f"{self.directory}: the statistics could not be written ({why}); what lay there before is as "
                "it was. Free some space, or name another directory"
            ) from error


def _tensors(statistics: TensorStatistics) -> Iterator[tuple[str, Tensor]]:
    for name in _TENSORS:
        tensor = getattr(statistics, name)
        if tensor is not None:
            yield name, tensor
    for width, counts in statistics.block_counts.items():
        yield f"block_counts.{width}", counts


def _wanted(unfinished: Mapping[str, Any]) -> dict[Site, Needs]:
    return {
        _site(item["site"]): Needs(**{**item["needs"], "blocks": tuple(item["needs"]["blocks"])})
        for item in unfinished["wanted"]
    }


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}; this mtcore reads version {VERSION}")
        if not isinstance(content["key"], dict):
            raise TypeError("its key is of another type")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(
            f"{path}: no statistics of mtcore ({error}); remove it, or name another directory"
        ) from error
    return content


def _check(directory: Path, found: Mapping[str, str], key: Mapping[str, str]) -> None:
    other = [name for name, value in key.items() if found.get(name) != value]
    if other:
        raise StateError(
            f"{directory}: these are statistics of other {' and other '.join(other)}; name another directory, or "
            "remove this one"
        )


def _parts_of(directory: Path, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    try:
        return [{name: part[name] for name in ("file", "records", "sites")} for part in manifest["parts"]]
    except (KeyError, TypeError) as error:
        raise _damaged(directory, directory, error) from error


def _load(directory: Path, part: Mapping[str, Any], *, check: bool = True) -> dict[Site, TensorStatistics]:
    """The statistics of one file, as views of it.

    Args:
        check: whether the file's content is held against its name.
    """
    path = directory / str(part["file"])
    tensors = TensorFile(path)
    try:
        if check and path.name.rpartition("-")[2].removesuffix(".safetensors") != _digest(tensors):
            raise ValueError("its checksum does not match its name")
        fields_of: list[dict[str, Any]] = [{**facts, "block_counts": {}} for facts in part["records"]]
        for name, tensor in tensors.items():
            number, _, what = name.partition(".")
            if what.startswith("block_counts."):
                fields_of[int(number)]["block_counts"][int(what.rpartition(".")[2])] = tensor
            else:
                fields_of[int(number)][what] = tensor
        records = [TensorStatistics(**found) for found in fields_of]
        return {_site(item["site"]): records[item["record"]] for item in part["sites"]}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _damaged(directory, path, error) from error


def _damaged(directory: Path, path: Path, error: Exception) -> StateError:
    return StateError(f"{path}: damaged ({error}); remove {directory} and gather the statistics again")


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(_bytes(tensor))
        drop_pages(tensor)
    return digest.hexdigest()[:32]


def _bytes(tensor: Tensor) -> Any:
    return tensor.reshape(-1).view(torch.uint8).numpy()


def _site(parts: list[str]) -> Site:
    module, slot = parts
    return module, slot

"""The statistics store: what one run of the data told, in a directory, for runs that decide again without data."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtcore.calibration.statistics.needs import Needs, Site, Wanted
from mtcore.calibration.statistics.record import TensorStatistics
from mtcore.errors import StateError
from mtcore.files import TensorFile, save_tensors, write_json

VERSION = 1
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

    Every file appears whole; the manifest comes last. So a crash or a full disk leaves what was there before.

    Attributes:
        directory: where they lie; made when something is written.
        key: hashes of what they are statistics of, by what a user calls it: "weights", "data", "code".
        known: the statistics.
        products: whether a run on data shall keep Σ x xᵀ of what linear layers read, whatever its recipe asks for.
    """

    directory: Path
    key: dict[str, str]
    known: dict[Site, TensorStatistics] = field(default_factory=dict)
    products: bool = False

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
        return cls(directory, {**found["key"], **key}, _load(directory, found))

    def add(self, found: Mapping[Site, TensorStatistics]) -> None:
        """Keep more statistics, on the disk too.

        Raises:
            StateError: the disk is full, or the directory cannot be written.
        """
        self.known.update(found)
        with self._writing():
            self._write(_MANIFEST, self.known, {})
            self._remove(_PARTIAL)

    def keep_unfinished(self, unfinished: Unfinished) -> None:
        """Keep what an interrupted run of the data has gathered, for the next run of the same data."""
        wanted = [{"site": list(site), "needs": asdict(needs)} for site, needs in unfinished.wanted.items()]
        with self._writing():
            self._write(_PARTIAL, unfinished.known, {"wanted": wanted, "batches": unfinished.batches})

    def unfinished(self, wanted: Wanted) -> Unfinished | None:
        """What an interrupted run of the same data left, if it gathered the same."""
        found = _read(self.directory / _PARTIAL)
        if found is None or found["key"] != self.key:
            return None
        asked = {
            _site(item["site"]): Needs(**{**item["needs"], "blocks": tuple(item["needs"]["blocks"])})
            for item in found["wanted"]
        }
        if asked != dict(wanted):
            return None
        return Unfinished(asked, found["batches"], _load(self.directory, found))

    def trace(self) -> str | None:
        """The trace that was kept with the statistics, as JSON."""
        found = _read(self.directory / _TRACE)
        return found["trace"] if found is not None and found["key"].get("weights") == self.key["weights"] else None

    def keep_trace(self, trace: str) -> None:
        """Keep a trace of the same weights."""
        with self._writing():
            write_json(self.directory / _TRACE, {"version": VERSION, "key": self.key, "trace": trace})

    def _write(self, name: str, known: Mapping[Site, TensorStatistics], more: Mapping[str, Any]) -> None:
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
                tensors |= {f"{number}.{part}": tensor for part, tensor in _parts(statistics)}
            sites.append({"site": list(site), "record": records[id(statistics)]})
        place = self.directory / f"{Path(name).stem}-{_digest(tensors)}.safetensors"
        save_tensors(place, sorted(tensors), tensors)
        content = {"key": self.key, "file": place.name, "records": facts, "sites": sites, **more}
        write_json(self.directory / name, {"version": VERSION, **content})
        for old in self.directory.glob(f"{Path(name).stem}-*.safetensors"):
            if old != place:
                old.unlink()

    def _remove(self, name: str) -> None:
        (self.directory / name).unlink(missing_ok=True)
        for old in self.directory.glob(f"{Path(name).stem}-*.safetensors"):
            old.unlink()

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


def _parts(statistics: TensorStatistics) -> Iterator[tuple[str, Tensor]]:
    for name in _TENSORS:
        tensor = getattr(statistics, name)
        if tensor is not None:
            yield name, tensor.detach().cpu().contiguous()
    for width, counts in statistics.block_counts.items():
        yield f"block_counts.{width}", counts.cpu()


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


def _load(directory: Path, manifest: Mapping[str, Any]) -> dict[Site, TensorStatistics]:
    path = directory / str(manifest["file"])
    tensors = TensorFile(path)
    try:
        if path.name.rpartition("-")[2].removesuffix(".safetensors") != _digest(tensors):
            raise ValueError("its checksum does not match its name")
        parts: list[dict[str, Any]] = [{**facts, "block_counts": {}} for facts in manifest["records"]]
        for name, tensor in tensors.items():
            number, _, part = name.partition(".")
            if part.startswith("block_counts."):
                parts[int(number)]["block_counts"][int(part.rpartition(".")[2])] = tensor
            else:
                parts[int(number)][part] = tensor
        records = [TensorStatistics(**part) for part in parts]
        return {_site(item["site"]): records[item["record"]] for item in manifest["sites"]}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise StateError(
            f"{path}: damaged ({error}); remove {directory} and gather the statistics again"
        ) from error


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:32]


def _bytes(tensor: Tensor) -> Any:
    return tensor.reshape(-1).view(torch.uint8).numpy()


def _site(parts: list[str]) -> Site:
    module, slot = parts
    return module, slot

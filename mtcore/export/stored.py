"""An artifact as a directory: written once, exported to any dialect at any time, without model or data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from mtcore.errors import StateError
from mtcore.export.artifact import Artifact, SourceFiles
from mtcore.export.flat import FlatTensors, Results, StoredModules, StoredTensors
from mtcore.export.shards import DEFAULT_SHARD_BYTES, write_tensors
from mtcore.files import TensorFile, write_json
from mtcore.plan import plan_from_dict, plan_to_dict

VERSION = 1
ARTIFACT_FILE = "artifact.json"
"""What tells that a directory holds an artifact."""
_STEM, _SOURCE = "artifact", "source"


def write_artifact(artifact: Artifact, folder: Path, max_shard_bytes: int = DEFAULT_SHARD_BYTES) -> None:
    """Write an artifact into an existing directory.

    Codes, scales and other tensors go into safetensors files, the plan and what else is known into artifact.json,
    the companion files into the folder `source`. The same artifact gives the same bytes.

    Raises:
        OSError: the disk is full, say.
    """
    tensors = FlatTensors(artifact)
    shards = write_tensors(tensors, folder, max_shard_bytes, stem=_STEM)
    place = folder / _SOURCE
    for name, path in artifact.source.files.items():
        _parent(place, name)
        shutil.copyfile(path, place / name)
    for name, text in artifact.source.texts.items():
        _parent(place, name)
        (place / name).write_text(text, encoding="utf-8")
    content = {
        "version": VERSION,
        "plan": plan_to_dict(artifact.plan),
        "modules": tensors.facts,
        "tied": dict(artifact.tied),
        "config": dict(artifact.source.config),
        "source": sorted((*artifact.source.files, *artifact.source.texts)),
        "files": sorted(set(shards.values())),
    }
    write_json(folder / ARTIFACT_FILE, content)


def open_artifact(folder: Path) -> Artifact:
    """The artifact of a directory; its tensors are views of the files, read when they are asked for.

    Raises:
        StateError: there is none, it is damaged, or of another version.
    """
    content = _read(folder)
    try:
        plan = plan_from_dict(content["plan"])
        results = Results(
            _Joined([TensorFile(_inside(folder, name)) for name in content["files"]]), content["modules"]
        )
        source = {name: _inside(folder / _SOURCE, name) for name in content["source"]}
        tied, config = dict(content["tied"]), dict(content["config"])
        missing = sorted({module.name for module in plan.quantized} ^ results.modules)
        missing += [str(path) for path in source.values() if not path.is_file()]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StateError(f"{folder / ARTIFACT_FILE}: no artifact ({type(error).__name__}: {error})") from error
    if missing:
        raise StateError(
            f"{folder}: a damaged artifact: plan and files do not agree about {', '.join(missing[:3])}"
        )
    return Artifact(
        plan, StoredModules(plan, [results]), StoredTensors({}, [results]), tied, SourceFiles(config, source)
    )


class _Joined(Mapping[str, Tensor]):
    """The tensors of several files."""

    def __init__(self, files: Sequence[TensorFile]) -> None:
        self._files = {name: file for file in files for name in file}

    def __getitem__(self, name: str) -> Tensor:
        return self._files[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _read(folder: Path) -> dict[str, Any]:
    file = folder / ARTIFACT_FILE
    if not file.is_file():
        raise StateError(
            f"{folder}: holds no artifact ({ARTIFACT_FILE} is missing); write one with "
            "`mtopt quantize MODEL --dialect artifact`"
        )
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = content["version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StateError(f"{file}: no artifact ({type(error).__name__}: {error})") from error
    if version != VERSION:
        raise StateError(f"{file}: an artifact of version {version}; this mtcore reads version {VERSION}")
    return content


def _inside(folder: Path, name: str) -> Path:
    """A file of the artifact; names that lead out of its directory are refused."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"the file name {name!r} leads out of the directory")
    return folder / path


def _parent(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)

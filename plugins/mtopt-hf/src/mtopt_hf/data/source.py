"""What a user's data source is: the kind that was asked for, or the one that its name tells."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mtcore.errors import CalibrationError
from mtopt_hf.data.tensors import holds_arguments

Kind = Literal["text", "jsonl", "parquet", "ids", "tensors", "dataset", "folder"]
"""text: one UTF-8 file. jsonl, parquet: records with a field. ids: token ids. tensors: named
arguments of the forward. dataset: a name that the `datasets` library knows. folder: files of text and records."""

DATASET_PREFIX = "datasets:"
_BY_SUFFIX: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".safetensors": "ids",
    ".npy": "ids",
}
_IN_FOLDERS: dict[str, Kind] = {".txt": "text", ".md": "text", ".json": "jsonl", **_BY_SUFFIX}
_REFUSED = {
    **dict.fromkeys(
        (".pt", ".pth", ".pkl", ".pickle"),
        "pickle is not read; write token ids with numpy.save('ids.npy', ids) or as safetensors",
    ),
    **dict.fromkeys(
        (".csv", ".tsv"), "tables are not read; write JSON lines or parquet, or say --calib-format text"
    ),
    **dict.fromkeys((".gz", ".zst", ".xz", ".zip", ".bz2"), "compressed files are not read; unpack it"),
    ".arrow": "arrow files are not read; write parquet (dataset.to_parquet)",
}
"""Suffixes of what would make no sense as text: why, and what to do."""


@dataclass(frozen=True)
class DataSource:
    """`name` is a path, or for a dataset `NAME` or `NAME:CONFIGURATION`."""

    kind: Kind
    name: str

    @property
    def path(self) -> Path:
        return Path(self.name).expanduser()


def understand_data(source: str, wanted: str = "auto", field: str | None = None) -> DataSource:
    """What `source` means.

    Args:
        wanted: a kind, or "auto": `datasets:NAME` is a dataset, a directory a folder, a file is what its suffix
            says, any other a text. A safetensors file is tensors where it holds others than `input_ids`, a JSON
            file is token ids where it holds rows of numbers, else records.
        field: the tensor that holds token ids, where a user names one.

    Raises:
        CalibrationError: no such kind; or no such file, and how a dataset would be named.
    """
    if wanted not in ("auto", *get_args(Kind)):
        raise CalibrationError(
            f"no kind of calibration data is named {wanted!r}; there are auto, {', '.join(get_args(Kind))}"
        )
    if source.startswith(DATASET_PREFIX):
        if wanted not in ("auto", "dataset"):
            raise CalibrationError(f"{source}: this names a dataset, but the data were said to be {wanted}")
        return DataSource("dataset", source.removeprefix(DATASET_PREFIX))
    if wanted == "dataset":
        return DataSource("dataset", source)
    found = DataSource("text", source)
    if found.path.is_dir() and wanted in ("auto", "folder"):
        return DataSource("folder", source)
    if not found.path.is_file():
        what = f"is a directory, not a file of {wanted}" if found.path.is_dir() else "no such file"
        raise CalibrationError(f"{source}: {what} (a dataset is named {DATASET_PREFIX}NAME)")
    if wanted == "auto":
        return DataSource(_kind_of(found.path, field), source)
    return DataSource(wanted, source)  # type: ignore[arg-type]  # checked above


def files_of(folder: DataSource) -> list[DataSource]:
    """The files of a folder and of all folders in it, in the order of their paths; hidden ones are left out.

    Raises:
        CalibrationError: there is none of text or records.
    """
    paths = sorted(
        path
        for path in folder.path.rglob("*")
        if path.suffix.lower() in _IN_FOLDERS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder.path).parts)
    )
    if not paths:
        raise CalibrationError(
            f"{folder.name}: there is no file of text or records in this directory ({', '.join(_IN_FOLDERS)}); a "
            f"dataset is named {DATASET_PREFIX}NAME"
        )
    return [
        DataSource("text" if path.suffix.lower() == ".md" else _kind_of(path, None), str(path)) for path in paths
    ]


def _kind_of(path: Path, field: str | None) -> Kind:
    suffix = path.suffix.lower()
    if suffix in _REFUSED:
        raise CalibrationError(f"{path}: {_REFUSED[suffix]}")
    if suffix == ".safetensors" and field is None and holds_arguments(path):
        return "tensors"
    if suffix == ".json":
        return "ids" if _holds_ids(path) else "jsonl"
    return _BY_SUFFIX.get(suffix, "text")


def _holds_ids(path: Path) -> bool:
    """Whether a JSON file begins with a number, in one list or in two."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return re.match(r"\s*\[\s*(\[\s*)?\d", file.read(1000)) is not None
    except OSError as error:
        raise CalibrationError(f"{path}: it cannot be read: {error.strerror}") from error

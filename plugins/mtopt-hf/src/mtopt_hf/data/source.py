"""What a user's data source is: the kind that was asked for, or the one that its name tells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mtcore.errors import CalibrationError
from mtopt_hf.data.tensors import holds_arguments

Kind = Literal["text", "jsonl", "parquet", "ids", "tensors", "dataset"]
"""text: one UTF-8 file. jsonl, parquet: records with a field. ids: token ids. tensors: named
arguments of the forward. dataset: a name that the `datasets` library knows."""

DATASET_PREFIX = "datasets:"
_BY_SUFFIX: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".safetensors": "ids",
    ".npy": "ids",
}


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
        wanted: a kind, or "auto": `datasets:NAME` is a dataset, a file is what its suffix says, any other a text.
            A safetensors file is tensors where it holds others than `input_ids`.
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
    if not found.path.is_file():
        what = "is a directory, not a file" if found.path.is_dir() else "no such file"
        raise CalibrationError(f"{source}: {what} (a dataset is named {DATASET_PREFIX}NAME)")
    if wanted == "auto":
        suffix = found.path.suffix.lower()
        if suffix == ".safetensors" and field is None and holds_arguments(found.path):
            return DataSource("tensors", source)
        return DataSource(_BY_SUFFIX.get(suffix, "text"), source)
    return DataSource(wanted, source)  # type: ignore[arg-type]  # checked above

"""Records: the value of one field, record by record, from JSON lines, parquet files and datasets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any, TextIO

from mtcore.errors import CalibrationError
from mtopt_hf.data.source import DataSource

Record = tuple[str, Any]
"""Where the value stands, for messages; and the value."""


def records(source: DataSource, field: str) -> Iterator[Record]:
    """The values of `field`, in the order of the source.

    A line of a JSON-lines file may be the value itself instead of an object that holds it. A file of one JSON list
    has a record an item.

    Raises:
        CalibrationError: the source cannot be read, a library for it is missing, or a record lacks the field.
    """
    if source.kind == "jsonl":
        return _jsonl(source.path, field)
    if source.kind == "parquet":
        return _parquet(source.path, field)
    return _dataset(source.name, field)


def _jsonl(path: Path, field: str) -> Iterator[Record]:
    try:
        with path.open(encoding="utf-8") as file:
            for where, value in _list_items(path, file) if path.suffix.lower() == ".json" else _lines(path, file):
                yield where, _field(value, field, where) if isinstance(value, dict) else value
    except UnicodeDecodeError as error:
        raise CalibrationError(f"{path}: not UTF-8 text (byte {error.start}: {error.reason})") from error
    except OSError as error:
        raise CalibrationError(f"{path}: it cannot be read: {error.strerror}") from error


def _lines(path: Path, file: TextIO) -> Iterator[Record]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, _parsed(line, where)


def _list_items(path: Path, file: TextIO) -> Iterator[Record]:
    """The items of a file that is one JSON list; JSON lines under the name of JSON go line by line."""
    text = file.read()
    if not text.lstrip().startswith("["):
        yield from _lines(path, StringIO(text))
        return
    items = _parsed(text, str(path))
    if items and all(type(item) is int for item in items):  # one row of token ids
        items = [items]
    for number, value in enumerate(items):
        yield f"{path}, item {number}", value


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise CalibrationError(f"{where}: not JSON: {error}") from error


def _parquet(path: Path, field: str) -> Iterator[Record]:
    try:
        from pyarrow import ArrowException  # type: ignore[import-not-found, import-untyped, unused-ignore]
        from pyarrow.parquet import ParquetFile  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise CalibrationError(_missing(str(path), "pyarrow", "parquet", error)) from error
    try:
        with ParquetFile(path) as file:
            known = file.schema_arrow.names
            if field not in known:
                raise CalibrationError(_no_field(str(path), field, known))
            number = 0
            for batch in file.iter_batches(columns=[field]):
                for value in batch.column(0).to_pylist():
                    yield f"{path}, row {number}", value
                    number += 1
    except (ArrowException, OSError) as error:
        raise CalibrationError(f"{path}: not readable as parquet: {error}") from error


def _dataset(name: str, field: str) -> Iterator[Record]:
    try:
        import datasets  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise CalibrationError(_missing(name, "datasets", "datasets", error)) from error
    dataset, _, configuration = name.partition(":")
    try:
        rows = datasets.load_dataset(dataset, configuration or None, split="train", streaming=True)
        for number, record in enumerate(rows):
            where = f"dataset {name}, record {number}"
            yield where, _field(record, field, where)
    except CalibrationError:
        raise
    except Exception as error:  # the library passes on what its readers and the network raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CalibrationError(
            f"dataset {name}: it cannot be read (no such dataset, or no network?): {reason}"
        ) from error


def _field(record: Mapping[str, Any], field: str, where: str) -> Any:
    if field not in record:
        raise CalibrationError(_no_field(where, field, record))
    return record[field]


def _no_field(where: str, field: str, known: Any) -> str:
    conversations = "; conversations are read with --chat" if field == "text" and "messages" in known else ""
    names = ", ".join(map(repr, known))
    return f"{where}: it has no field {field!r}, but {names}; name one with --text-field{conversations}"


def _missing(source: str, library: str, extra: str, error: ImportError) -> str:
    return f"{source}: reading it needs the library {library} ({error}): pip install 'mtopt-hf[{extra}]'"

"""The weight files of a checkpoint directory: found, complete and whole, judged by their headers alone."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from mtcore.errors import ModelError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library itself


def check_weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a checkpoint, after a look at every header.

    Raises:
        ModelError: a file is missing, cut short or not what its name says; all such problems in one message.
    """
    files = tuple(folder / name for name in _names(folder))
    problems = [problem for file in files if (problem := header_problem(file))]
    if problems:
        raise ModelError("; ".join(problems))
    return files


def header_problem(file: Path) -> str | None:
    """Why a safetensors file cannot be right, or None. Reads the header only.

    The file is: header length (u64, little endian), header (JSON: name → dtype, shape, data_offsets), data.
    """
    if not file.is_file():
        return f"{file}: the index names this file, but it is missing"
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        if len(start) < 8:
            return f"{file}: {size} bytes are too few for a safetensors file; it was cut short"
        (length,) = struct.unpack("<Q", start)
        if length > _LARGEST_HEADER:
            return f"{file}: its header claims {length} bytes; this is not a safetensors file"
        header = stream.read(length)
    if len(header) < length:
        return f"{file}: cut short inside its header ({size} of at least {8 + length} bytes)"
    try:
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        data = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        return f"{file}: its header is damaged ({type(error).__name__}: {error})"
    expected = 8 + length + data
    if size != expected:
        state = "cut short" if size < expected else "longer than its header says"
        return f"{file}: {state} ({size} of {expected} bytes); fetch it again"
    return None


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ModelError: it cannot be read or is no object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file}: a JSON object was expected, not {type(content).__name__}")
    return content


def _names(folder: Path) -> tuple[str, ...]:
    index = folder / INDEX
    if (folder / SINGLE).is_file():
        return (SINGLE,)
    if not index.is_file():
        raise ModelError(_no_weights(folder))
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{index}: it has no weight_map")
    names = sorted(set(map(str, weight_map.values())))
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise ModelError(f"{index}: it names {outside[0]!r}; shards lie beside their index")
    return tuple(names)


def _no_weights(folder: Path) -> str:
    pickles = sorted(file.name for file in (*folder.glob("*.bin"), *folder.glob("*.pt*")))
    if pickles:
        return (
            f"{folder}: its weights are pickle files ({pickles[0]}), which can run code when they are opened; "
            "convert them to safetensors first"
        )
    return f"{folder}: it has neither {SINGLE} nor {INDEX}"

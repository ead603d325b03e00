"""Writing tensors as one safetensors file, or as shards with an index."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from mtcore.errors import ExportError
from mtopt_hf.load.weight_files import INDEX, SINGLE
from mtopt_hf.natural import natural_order

DEFAULT_SHARD_BYTES = 5_000_000_000
_METADATA = {"format": "pt"}  # one key only: safetensors writes several in random order


def write_tensors(tensors: Mapping[str, Tensor], folder: Path, max_shard_bytes: int = DEFAULT_SHARD_BYTES) -> None:
    """Write `tensors` in the natural order of their names; the same tensors give the same bytes.

    A shard holds at most `max_shard_bytes`, or a single tensor that is larger.

    Raises:
        OSError: the disk is full, say.
    """
    names = sorted(tensors, key=natural_order)
    shards = list(_split(names, tensors, max_shard_bytes))
    if len(shards) == 1:
        _save({name: tensors[name] for name in names}, folder / SINGLE)
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _save({name: tensors[name] for name in shard}, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _split(names: list[str], tensors: Mapping[str, Tensor], limit: int) -> Iterator[list[str]]:
    shard: list[str] = []
    size = 0
    for name in names:
        if shard and size + tensors[name].nbytes > limit:
            yield shard
            shard, size = [], 0
        shard.append(name)
        size += tensors[name].nbytes
    yield shard


def _save(tensors: Mapping[str, Tensor], file: Path) -> None:
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, file, _METADATA)
    except SafetensorError as error:
        # The library reports the operating system's errors as text.
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise ExportError([f"{file}: {error}"]) from error
        raise OSError(int(code[1]), str(error), str(file)) from error

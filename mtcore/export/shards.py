"""Writing tensors as one safetensors file, or as shards with an index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from mtcore.export.natural import natural_order
from mtcore.files import facts_of, save_tensors, write_json

DEFAULT_SHARD_BYTES = 5_000_000_000
_METADATA = {"format": "pt"}


def index_name(stem: str = "model") -> str:
    """The file that says which tensor lies in which shard."""
    return f"{stem}.safetensors.index.json"


def write_tensors(
    tensors: Mapping[str, Tensor],
    folder: Path,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
    *,
    stem: str = "model",
) -> dict[str, str]:
    """Write `tensors` in the natural order of their names; the same tensors give the same bytes.

    A shard holds at most `max_shard_bytes`, or a single tensor that is larger. Of a mapping that makes its tensors
    when it is asked, a few are held at a time; see `save_tensors`. A shard appears whole; one that is there
    already, from a run that was interrupted, is kept.

    Returns:
        The file of each tensor, by its name.

    Raises:
        OSError: the disk is full, say.
    """
    names = sorted(tensors, key=natural_order)
    sizes = {name: _size(*facts_of(tensors, name)) for name in names}
    shards = list(_split(names, sizes, max_shard_bytes))
    if len(shards) == 1:
        _save(tensors, names, folder / f"{stem}.safetensors")
        return dict.fromkeys(names, f"{stem}.safetensors")
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors"
        _save(tensors, shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
    write_json(folder / index_name(stem), index)
    return weight_map


def _size(dtype: torch.dtype, shape: torch.Size) -> int:
    return dtype.itemsize * shape.numel()


def _split(names: list[str], sizes: Mapping[str, int], limit: int) -> Iterator[list[str]]:
    shard: list[str] = []
    size = 0
    for name in names:
        if shard and size + sizes[name] > limit:
            yield shard
            shard, size = [], 0
        shard.append(name)
        size += sizes[name]
    yield shard


def _save(tensors: Mapping[str, Tensor], names: list[str], file: Path) -> None:
    if not file.exists():
        save_tensors(file, names, tensors, _METADATA, cached=False)

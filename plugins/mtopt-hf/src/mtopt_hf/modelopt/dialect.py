"""ModelOpt's checkpoints as a dialect."""

from __future__ import annotations

from pathlib import Path

from mtcore.export import DEFAULT_SHARD_BYTES, Artifact
from mtopt_hf import checkpoint
from mtopt_hf.checkpoint.dialect import Dialect
from mtopt_hf.modelopt.config import METHOD, describe
from mtopt_hf.modelopt.spelling import CACHES
from mtopt_hf.modelopt.tensors import cache_scale, layer_tensors

MODELOPT = Dialect(METHOD, layer_tensors, describe, caches=CACHES, cache_scale=cache_scale)


def write_checkpoint(artifact: Artifact, folder: Path, max_shard_bytes: int = DEFAULT_SHARD_BYTES) -> None:
    """Write an artifact as ModelOpt does; see `checkpoint.write_checkpoint`."""
    checkpoint.write_checkpoint(artifact, folder, MODELOPT, max_shard_bytes)

"""A hash of source files: of the code that found a result, so that the result holds for that code only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch

from mtcore import __version__


def hash_sources(files: Iterable[Path]) -> str:
    """SHA-256 over the contents of files in order, and the versions of mtcore and torch."""
    digest = hashlib.sha256(f"{__version__} {torch.__version__}".encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()

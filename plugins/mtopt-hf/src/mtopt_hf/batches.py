"""Calibration batches from a text: token ids in chunks of one length, each starting a sequence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from mtcore.errors import CalibrationError
from mtcore.flow.data_options import DataOptions
from mtcore.flow.loaded import LoadedModel, Tokenizer

_PIECE_CHARACTERS = 1 << 20  # text is tokenized in pieces of about this size; a huge file costs what is used


def text_batches(source: str, loaded: LoadedModel, options: DataOptions) -> list[dict[str, Any]]:
    """Batches for a forward loop, from the start of a UTF-8 text file; the same file gives the same batches.

    The text becomes one row of ids, cut into `samples` chunks that do not overlap. A chunk is the model's
    begin-of-sequence token and `length - 1` tokens of text (`length` tokens where the model has no such token).

    Returns:
        dicts of `input_ids`, int64 [≤ batch_size, length], and `use_cache=False`. All tokens are text, so there
        is no attention mask.

    Raises:
        CalibrationError: the file is missing, no text, or too short.
    """
    if loaded.tokenizer is None:
        raise CalibrationError(f"{loaded.source}: this model has no tokenizer, so text cannot become its input")
    _check(options)
    path = Path(source).expanduser()
    bos = loaded.tokenizer.bos_id
    body = options.length - (bos is not None)
    needed = options.samples * body
    ids = _first_ids(path, loaded.tokenizer, needed)
    if len(ids) < needed:
        fewer = f", or at most {len(ids) // body} samples" if len(ids) >= body else ""
        raise CalibrationError(
            f"{source}: its text gives {len(ids)} tokens, but {options.samples} samples of {options.length} need "
            f"{needed}; use a longer text{fewer}, or shorter samples"
        )
    rows = torch.tensor(ids[:needed], dtype=torch.int64).view(options.samples, body)
    if bos is not None:
        rows = torch.cat((torch.full((options.samples, 1), bos), rows), dim=1)
    return [{"input_ids": batch, "use_cache": False} for batch in torch.split(rows, options.batch_size)]


def _check(options: DataOptions) -> None:
    for name, least in (("samples", 1), ("length", 2), ("batch_size", 1)):
        value = getattr(options, name)
        if value < least:
            raise CalibrationError(f"calibration data: {name} is {value}; it must be at least {least}")


def _first_ids(path: Path, tokenizer: Tokenizer, needed: int) -> list[int]:
    ids: list[int] = []
    for piece in _pieces(path):
        ids += tokenizer.encode(piece)
        if len(ids) >= needed:
            break
    return ids


def _pieces(path: Path) -> Iterator[str]:
    """The text of a file in pieces of whole lines."""
    if not path.is_file():
        what = "is a directory, not a text file" if path.is_dir() else "no such file"
        raise CalibrationError(f"{path}: {what}")
    try:
        with path.open(encoding="utf-8") as file:
            while lines := file.readlines(_PIECE_CHARACTERS):
                piece = "".join(lines)
                if "\0" in piece:
                    raise CalibrationError(f"{path}: it holds zero bytes, so it is no text")
                yield piece
    except UnicodeDecodeError as error:
        raise CalibrationError(f"{path}: not UTF-8 text (byte {error.start}: {error.reason})") from error
    except OSError as error:
        raise CalibrationError(f"{path}: it cannot be read: {error.strerror}") from error

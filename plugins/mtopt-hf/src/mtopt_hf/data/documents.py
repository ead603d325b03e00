"""Documents: token ids of one text, conversation or row of ids after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError
from safetensors import SafetensorError, safe_open

from mtcore.errors import CalibrationError
from mtcore.flow import DataOptions, LoadedModel, Tokenizer
from mtopt_hf.data.records import records
from mtopt_hf.data.source import DataSource, files_of
from mtopt_hf.data.text import text_pieces
from mtopt_hf.tokenizer import HfTokenizer

BETWEEN_TEXTS = "\n\n"
_IDS = "input_ids"


def documents(source: DataSource, loaded: LoadedModel, options: DataOptions) -> Iterator[list[int]]:
    """The documents of a source, in its order, without begin-of-sequence tokens of our own.

    A text file is one document, in pieces. Texts of records, and files of a folder, are joined by a blank line. A
    conversation is what the tokenizer's chat template makes of it.

    Raises:
        CalibrationError: the source cannot be read, or a record is not what the options say; with its place.
    """
    if source.kind == "folder":
        yield from _of_folder(source, loaded, options)
        return
    if source.kind == "ids":
        yield from _id_rows(source, options.field or _IDS)
        return
    tokenizer = loaded.tokenizer
    if tokenizer is None:
        raise CalibrationError(
            f"{loaded.source}: this model has no tokenizer, so text cannot become its input; give token ids, or a "
            "safetensors file whose tensors bear the names of its forward's arguments, a sample a row"
        )
    if source.kind == "text":
        if options.chat:
            raise CalibrationError(f"{source.name}: conversations come as records (JSON lines, parquet, a dataset)")
        yield from (tokenizer.encode(piece) for piece in text_pieces(source.path))
    elif options.chat:
        yield from _conversations(source, tokenizer, options.field or "messages")
    else:
        yield from _texts(source, tokenizer, options.field or "text")


def _of_folder(source: DataSource, loaded: LoadedModel, options: DataOptions) -> Iterator[list[int]]:
    for file in files_of(source):
        if file.kind in ("ids", "tensors"):
            raise CalibrationError(f"{file.name}: a directory is read as text and records; name this file itself")
        yield from documents(file, loaded, options)
        if file.kind == "text" and loaded.tokenizer is not None:
            yield loaded.tokenizer.encode(BETWEEN_TEXTS)


def _texts(source: DataSource, tokenizer: Tokenizer, field: str) -> Iterator[list[int]]:
    for where, text in records(source, field):
        if not isinstance(text, str):
            raise CalibrationError(
                f"{where}: {field!r} is a {type(text).__name__}, not a text; say --chat for conversations, or "
                "--calib-format ids for token ids"
            )
        if text:
            yield tokenizer.encode(text + BETWEEN_TEXTS)


def _conversations(source: DataSource, tokenizer: Tokenizer, field: str) -> Iterator[list[int]]:
    if not isinstance(tokenizer, HfTokenizer) or not tokenizer.has_chat_template:
        raise CalibrationError("this model's tokenizer has no chat template; give plain texts instead of --chat")
    for where, messages in records(source, field):
        try:
            ids = tokenizer.encode(tokenizer.chat_text(messages))
        except (TemplateError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CalibrationError(
                f"{where}: the chat template does not take {field!r} ({type(error).__name__}: {error}); it should "
                'be a list of {"role": …, "content": …}'
            ) from error
        bos = tokenizer.bos_id
        yield ids[1:] if bos is not None and ids[:1] == [bos] else ids


def _id_rows(source: DataSource, field: str) -> Iterator[list[int]]:
    if source.path.suffix.lower() in (".safetensors", ".npy"):
        ids = _array(source.path, field)
        if ids.dtype.kind not in "iu" or ids.ndim not in (1, 2):
            raise CalibrationError(
                f"{source.name}: {ids.dtype} {list(ids.shape)} are no token ids; rows of integers are"
            )
        yield from np.atleast_2d(ids).tolist()
        return
    for where, row in records(DataSource("jsonl", source.name), field):
        if not isinstance(row, list) or not all(type(i) is int for i in row):
            raise CalibrationError(f"{where}: no list of token ids")
        yield row


def _array(path: Path, field: str) -> np.ndarray[Any, Any]:
    try:
        if path.suffix.lower() == ".npy":
            array: np.ndarray[Any, Any] = np.load(path, allow_pickle=False)
            return array
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            if field not in names:
                known = ", ".join(names)
                raise CalibrationError(
                    f"{path}: it has no tensor {field!r}, but {known}; name one with --text-field"
                )
            array = file.get_tensor(field)
            return array
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise CalibrationError(f"{path}: not readable as token ids: {error}") from error

"""Batches: documents become one row of token ids, the row is cut into chunks, and chunks are put together."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from torch import Tensor

from mtcore.errors import CalibrationError
from mtcore.flow import DataOptions, LoadedModel
from mtopt_hf.data.documents import documents
from mtopt_hf.data.source import understand_data
from mtopt_hf.data.tensors import tensor_batches
from mtopt_hf.load.positions import key_of_positions, learned_positions


def calibration_batches(source: str, loaded: LoadedModel, options: DataOptions) -> list[dict[str, Any]]:
    """Batches for a forward loop; the same data and options give the same batches.

    All documents become one row of ids, cut into chunks that do not overlap. A chunk of text is the model's
    begin-of-sequence token and `length - 1` tokens (`length` where the model has no such token). Token ids are
    taken as they are. Without a seed, the first `samples` chunks are used and no more of the data is read. With
    one, all data is cut, and `samples` of the chunks are drawn.

    Args:
        source: see `understand_data`.

    Returns:
        dicts of `input_ids`, int64 [≤ batch_size, length], and `use_cache=False`. Every position is data, so there
        is no attention mask. An encoder-decoder also gets `decoder_input_ids`: the same ids, shifted by its start
        token. A file of tensors that bear other names gives what it holds, see `tensor_batches`.

    Raises:
        CalibrationError: the data cannot be read, or are too few: it says how many there are and how many are
            needed. Or a sample has more tokens than the model has positions.
    """
    _check(options)
    data = understand_data(source, options.format, options.field)
    if data.kind == "tensors":
        return tensor_batches(data.path, loaded, options)
    _check_positions(source, loaded, options)
    bos = None if data.kind == "ids" or loaded.tokenizer is None else loaded.tokenizer.bos_id
    body = options.length - (bos is not None)
    needed = options.samples * body
    stream = (id_ for document in documents(data, loaded, options) for id_ in document)
    ids = list(islice(stream, needed)) if options.seed is None else list(stream)
    if len(ids) < needed:
        raise CalibrationError(_too_few(source, len(ids), body, options))
    rows = _drawn(ids, body, options)
    _check_vocabulary(rows, source, loaded)
    if bos is not None:
        rows = torch.cat((torch.full((options.samples, 1), bos), rows), dim=1)
    batches = torch.split(rows, options.batch_size)
    return [{"input_ids": ids, **_decoder_side(ids, loaded), "use_cache": False} for ids in batches]


def _decoder_side(ids: Tensor, loaded: LoadedModel) -> dict[str, Tensor]:
    """What the decoder of an encoder-decoder reads: the same text, one position later, after its start token."""
    if "decoder_input_ids" not in loaded.example_inputs:
        return {}
    config: Any = loaded.model.config
    start = next((t for t in (config.decoder_start_token_id, config.pad_token_id) if t is not None), 0)
    return {"decoder_input_ids": torch.cat((torch.full_like(ids[:, :1], start), ids[:, :-1]), dim=1)}


def _drawn(ids: list[int], body: int, options: DataOptions) -> Tensor:
    """int64 [samples, body]"""
    chunks = torch.tensor(ids[: len(ids) // body * body], dtype=torch.int64).view(-1, body)
    if options.seed is None:
        return chunks
    order = torch.randperm(len(chunks), generator=torch.Generator().manual_seed(options.seed))
    return chunks[order[: options.samples]]


def _check(options: DataOptions) -> None:
    for name, least in (("samples", 1), ("length", 2), ("batch_size", 1)):
        value = getattr(options, name)
        if value < least:
            raise CalibrationError(f"calibration data: {name} is {value}; it must be at least {least}")


def _check_positions(source: str, loaded: LoadedModel, options: DataOptions) -> None:
    most = learned_positions(loaded.model)
    if most is not None and options.length > most:
        key = key_of_positions(loaded.model)
        raise CalibrationError(
            f"{source}: {options.length} tokens a sample, but the model has {most} positions (config.json: {key}); "
            f"give --length {most}"
        )


def _check_vocabulary(rows: Tensor, source: str, loaded: LoadedModel) -> None:
    embedding: Any = getattr(loaded.model, "get_input_embeddings", lambda: None)()
    if embedding is None:
        return
    size, low, high = int(embedding.weight.shape[0]), int(rows.min()), int(rows.max())
    if low < 0 or high >= size:
        wrong = low if low < 0 else high
        raise CalibrationError(f"{source}: token id {wrong} is outside of the model's vocabulary of {size}")


def _too_few(source: str, found: int, body: int, options: DataOptions) -> str:
    fewer = f", or at most {found // body} samples" if found >= body else ""
    return (
        f"{source}: it gives {found} tokens, but {options.samples} samples of {options.length} need "
        f"{options.samples * body}; use more data{fewer}, or shorter samples"
    )

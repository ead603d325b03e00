"""Batches of named tensors, the arguments of a forward: pixels, sound, masks, both sides of an encoder-decoder."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from mtcore.errors import CalibrationError
from mtcore.flow import DataOptions, LoadedModel, forward_arguments, read_inputs

IDS = "input_ids"
_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def holds_arguments(file: Path) -> bool:
    """Whether a safetensors file holds more than rows of token ids; False where it cannot be read."""
    try:
        with safe_open(file, framework="pt") as opened:
            return set(opened.keys()) != {IDS}
    except (OSError, SafetensorError):
        return False  # who reads it says why


def tensor_batches(file: Path, loaded: LoadedModel, options: DataOptions) -> list[dict[str, Any]]:
    """Batches of a file whose tensors bear the names of the forward's arguments, a sample a row.

    Returns:
        dicts of tensors [≤ batch_size, …] and of what else a forward of this model is given.

    Raises:
        ModelError: the file cannot be read, or a tensor has not the name of an argument.
        CalibrationError: its tensors have not one number of rows, or fewer than samples were asked for.
    """
    tensors = read_inputs(file)
    rows = {name: tensor.shape[0] if tensor.ndim else 0 for name, tensor in tensors.items()}
    if len(set(rows.values())) > 1:
        shown = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise CalibrationError(f"{file}: the first axis of every tensor is the samples, but they have {shown}")
    found = next(iter(rows.values()))
    if found < options.samples:
        raise CalibrationError(
            f"{file}: it holds {found} samples, but {options.samples} were asked for; say --samples {max(found, 1)}"
        )
    _check_names(file, tensors, loaded)
    arguments = forward_arguments(loaded, tensors, file)
    order = torch.arange(found)
    if options.seed is not None:
        order = torch.randperm(found, generator=torch.Generator().manual_seed(options.seed))
    return [
        {name: value[rows_] if name in tensors else value for name, value in arguments.items()}
        for rows_ in torch.split(order[: options.samples], options.batch_size)
    ]


def _check_names(file: Path, tensors: Iterable[str], loaded: LoadedModel) -> None:
    """A forward that ends in `**kwargs` would take any name, and not use it."""
    known = [name for name, p in inspect.signature(loaded.model.forward).parameters.items() if p.kind not in _REST]
    for name in tensors:
        if name not in known:
            raise CalibrationError(
                f"{file}: {type(loaded.model).__name__}.forward has no argument {name!r}, but {', '.join(known)}; "
                f"where the tensor holds rows of token ids, say --text-field {name}"
            )

"""Example inputs from a safetensors file: named tensors, the keyword arguments of one forward."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mtcore.errors import ModelError
from mtcore.flow.loaded import LoadedModel


def read_inputs(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name.

    Raises:
        ModelError: the file is missing, is no safetensors file, or is empty.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; example inputs are a safetensors file of named tensors")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a safetensors file ({error})") from error
    if not tensors:
        raise ModelError(f"{path}: no tensors in it; each is handed to the model's forward by its name")
    return tensors


def forward_arguments(loaded: LoadedModel, tensors: dict[str, Tensor], path: Path) -> dict[str, Any]:
    """The keyword arguments of a forward: these tensors, and the loader's switches (`use_cache` and the like).

    Raises:
        ModelError: the forward has no argument of a tensor's name, or misses one.
    """
    switches = {name: value for name, value in loaded.example_inputs.items() if not isinstance(value, Tensor)}
    arguments = {**switches, **tensors}
    signature = inspect.signature(loaded.model.forward)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        kind = type(loaded.model).__name__
        raise ModelError(f"{path}: {error}; its tensors become arguments of {kind}.forward{signature}") from error
    return arguments

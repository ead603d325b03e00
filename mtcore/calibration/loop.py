"""The forward loop: callables and iterables of batches become one thing, run in eval mode without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mtcore.errors import CalibrationError
from mtcore.nn.walk import modules_of
from mtcore.trace import TraceInputs

ForwardLoop = Callable[[nn.Module], object]
"""Runs the model on all calibration data; what it returns is ignored."""

Data = ForwardLoop | Iterable[Any]
"""Calibration data as users give it: a function that runs the model, or an iterable of batches."""


def as_forward_loop(data: Data, on_batch: Callable[[Any], None] | None = None) -> ForwardLoop:
    """A function that runs a model on all of `data`.

    Args:
        data: a function of the model, taken as it is; or an iterable whose batches are a tensor, a tuple or list
            of positional arguments, or a mapping of keyword arguments.
        on_batch: told each batch after its forward, for progress; iterables only.

    Raises:
        CalibrationError: it is neither (at once), or the iterable holds no batch (when run).
    """
    if callable(data):
        return data
    if not isinstance(data, Iterable):
        raise CalibrationError(
            f"calibration data is a {type(data).__name__}; give a function of the model, or an iterable of batches"
        )

    def loop(model: nn.Module) -> None:
        batches = 0
        for batch in data:
            forward_batch(model, batch)
            batches += 1
            if on_batch is not None:
                on_batch(batch)
        if not batches:
            raise CalibrationError("the calibration data held no batch (an iterator that was used up already?)")

    return loop


def forward_batch(model: nn.Module, batch: Any) -> Any:
    """One forward with a batch as a data loader yields it."""
    inputs = TraceInputs.of(batch)
    return model(*inputs.args, **inputs.kwargs)


@contextmanager
def calibration_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; every module's own mode is put back, also after an error."""
    training = [module for module in modules_of(model) if module.training]
    if training:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True

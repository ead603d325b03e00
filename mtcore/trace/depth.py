"""Depth: which lists of blocks a model runs through one after the other, so that it also runs with fewer."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from mtcore.trace.inputs import TraceInputs
from mtcore.trace.report import TraceReport
from mtcore.trace.state import quiet_forward
from mtcore.trace.structure import tensors_in


def stacks_of_blocks(model: nn.Module, report: TraceReport) -> Iterator[str]:
    """Lists of two or more blocks of one class, with children, of which every one was called just once."""
    calls = {called.name: called.calls for called in report.called}
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or len(module) < 2:
            continue
        prefix = f"{name}." if name else ""
        blocks = dict(module.named_children())
        alike = len({type(block) for block in blocks.values()}) == 1
        deep = all(next(block.children(), None) is not None for block in blocks.values())
        if alike and deep and all(calls.get(f"{prefix}{n}") == 1 for n in blocks):
            yield name


def runs_without(model: nn.Module, inputs: TraceInputs, blocks: Collection[str]) -> bool:
    """Whether the model gives results of the same shapes when these blocks hand on what they are given."""
    with quiet_forward(model):
        whole = _shapes(model, inputs)
        with _skipped(model, blocks):
            try:
                return _shapes(model, inputs) == whole
            except Exception:  # noqa: BLE001  that it does not run is the answer, whatever it raises
                return False


def _shapes(model: nn.Module, inputs: TraceInputs) -> list[torch.Size]:
    return [tensor.shape for tensor in tensors_in(model(*inputs.args, **inputs.kwargs))]


@contextmanager
def _skipped(model: nn.Module, blocks: Collection[str]) -> Iterator[None]:
    """While it lasts, the blocks are skipped: their result is their first argument, as a tuple where it was one."""
    handles = []
    try:
        for name in blocks:
            handles.append(model.get_submodule(name).register_forward_hook(_pass_through, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _pass_through(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object], out: object) -> object:
    given = args[0] if args else next(iter(kwargs.values()))
    return (given, *out[1:]) if isinstance(out, tuple) else given

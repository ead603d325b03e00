"""Leaving a model as it was found: flags, attributes, buffers and random numbers around a forward."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def quiet_forward(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; on exit the model and the random number generators are as before.

    Put back are: training flags, hooks, every attribute that was bound to another object,
    registered buffers (also their contents) and the state of the CPU's and the model's CUDA generators.
    Not put back are objects that a forward changes in place and that are no buffers, such as a user's cache.
    """
    modules = list(model.modules())
    attributes = [(module.__dict__, _shallow(module.__dict__)) for module in modules]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    try:
        for module in modules:
            module.training = False
        torch.backends.mha.set_fastpath_enabled(False)  # one opaque kernel would hide a whole layer
        with torch.random.fork_rng(_cuda_devices(model)), torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for live, saved in attributes:
            _restore(live, saved)
        with torch.no_grad():
            for buffer, before in buffers:
                if buffer.device.type != "meta" and not bit_equal(buffer, before):
                    buffer.copy_(before)


@contextmanager
def no_collections() -> Iterator[None]:
    """Without garbage collections: one over the heap of a model library takes longer than tracing a small model."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _shallow(attributes: dict[str, object]) -> dict[str, object]:
    return {key: dict(value) if isinstance(value, dict) else value for key, value in attributes.items()}


def _restore(live: dict[str, object], saved: dict[str, object]) -> None:
    for key in [key for key in live if key not in saved]:
        del live[key]
    for key, before in saved.items():
        now = live.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            if list(now) != list(before) or any(now[k] is not before[k] for k in before):
                now.clear()
                now.update(before)
        elif now is not before:
            live[key] = before


def exact_copy(tensor: Tensor) -> Tensor:
    """A copy with the same strides: kernels may round differently on another layout."""
    odd = tensor.layout is not torch.strided or tensor.is_conj() or tensor.is_neg()
    if odd or torch._C._functorch.is_functorch_wrapped_tensor(tensor) or 0 in tensor.stride():
        return tensor.detach().clone()
    copy = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=tensor.device)
    return copy.copy_(tensor.detach())


def bit_equal(a: Tensor, b: Tensor) -> bool:
    """Same shape, dtype and bytes; NaN equals NaN, and -0.0 differs from 0.0."""
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(_bytes(a), _bytes(b))


def _bytes(tensor: Tensor) -> Tensor:
    flat = tensor.detach().resolve_conj().resolve_neg().reshape(-1)
    if flat.stride() != (1,):  # `contiguous` leaves one element of an expanded tensor with its stride of 0
        flat = flat.clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8)


def _cuda_devices(model: nn.Module) -> list[int]:
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    return sorted(torch.cuda.current_device() if d.index is None else d.index for d in devices)

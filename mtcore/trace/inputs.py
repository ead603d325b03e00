"""Example inputs for one forward: what a user may pass, and how they are made when nothing is passed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from mtcore.errors import TraceError

BATCH, TOKENS, IMAGE = 2, 8, 64


@dataclass(frozen=True)
class TraceInputs:
    """The arguments of one call `model(*args, **kwargs)`.

    Example:
        >>> TraceInputs(kwargs={"input_ids": torch.tensor([[1, 2]])}).args
        ()
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, inputs: object) -> TraceInputs:
        """Reads a tensor, a tuple or list of positional arguments, or a mapping of keyword arguments."""
        if isinstance(inputs, TraceInputs):
            return inputs
        if isinstance(inputs, Mapping):
            return cls(kwargs=dict(inputs))
        if isinstance(inputs, (tuple, list)):
            return cls(args=tuple(inputs))
        return cls(args=(inputs,))


InputMaker = Callable[[nn.Module], TraceInputs | None]
"""Makes example inputs for the models it understands; None means "not mine"."""


def example_inputs(model: nn.Module, makers: Sequence[InputMaker] = ()) -> TraceInputs:
    """Asks `makers` in order, then the built-in ones; the first answer wins.

    Raises:
        TraceError: nobody knows what this model eats.
    """
    for maker in (*makers, *BUILTIN_MAKERS):
        made = maker(model)
        if made is not None:
            return made
    raise TraceError(
        f"no example inputs could be made for {type(model).__name__}{inspect.signature(model.forward)}: "
        "pass inputs= (a tensor, a tuple of arguments or a dict of keyword arguments)"
    )


def plain_module_inputs(model: nn.Module) -> TraceInputs | None:
    """Inputs for a module whose forward needs one tensor, read off its first parameter-bearing layer.

    The tensor has that layer's dtype and device and is the same on every call.
    Rank and size are a guess (2 rows, 8 tokens, 64x64 pixels): pass inputs where it is wrong.
    """
    if _required_arguments(model) != 1:
        return None
    for module in model.modules():
        own = next(module.parameters(recurse=False), None)
        if own is not None:
            shape = _input_shape(module)
            if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
                ids = torch.randint(module.num_embeddings, (BATCH, TOKENS), generator=_generator())
                return TraceInputs((ids.to(own.device),))
            if shape is None or own.device.type == "meta":
                return None
            x = torch.randn(shape, generator=_generator())
            return TraceInputs((x.to(device=own.device, dtype=own.dtype),))
    return None


BUILTIN_MAKERS: tuple[InputMaker, ...] = (plain_module_inputs,)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _required_arguments(model: nn.Module) -> int:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(model.forward).parameters.values()
    return sum(p.default is p.empty and (p.kind in kinds or p.kind is p.KEYWORD_ONLY) for p in parameters)


def _input_shape(module: nn.Module) -> tuple[int, ...] | None:
    if isinstance(module, nn.Linear):
        return (BATCH, module.in_features)
    for rank, kinds in enumerate(_BY_RANK, start=1):
        if isinstance(module, kinds):
            channels = getattr(module, "in_channels", None) or getattr(module, "num_features", None)
            return (BATCH, int(channels or 1), *[IMAGE] * rank)
    if isinstance(module, nn.RNNBase):
        return (BATCH, TOKENS, module.input_size)
    if isinstance(module, nn.MultiheadAttention):
        return (BATCH, TOKENS, module.embed_dim)
    if isinstance(module, nn.LayerNorm):
        return (BATCH, *module.normalized_shape)
    return None


_BY_RANK: tuple[tuple[type[nn.Module], ...], ...] = (
    (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d),
    (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d),
    (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d),
)

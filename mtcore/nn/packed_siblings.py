"""PackedSiblings: packed layers that read one value, computed by one call when the first of them is asked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtcore.nn.packed_linear import PackedLinear

_log = logging.getLogger("mtcore")

MOST_WASTED = 8
"""So often in turn results may go unused before layers compute alone from then on."""


class PackedSiblings:
    """Layers inside one module that a trace saw reading the same value: q, k and v, or gate and up.

    In a forward of the module around them, the first that is called computes all, so that the input is quantized
    once and fewer kernels run. Each of the others takes its part if it is called with the very same tensor, as it
    was, on the same stream, which records a CUDA graph then as now; else it computes afresh. What nobody took is
    dropped when that forward ends, however it does. Outside of it layers compute alone, and so they do in what
    is left of a forward that called its own module again, or that another thread's ended meanwhile. Weights, scales
    and state stay each layer's own.

    Versions of tensors, which tell that one was changed in place, are not counted under `torch.compile` and for
    inference tensors: there the same tensor is taken for the same value, as the trace found.

    Attributes:
        layers: in the order of the trace.
        agree: whether the calibrated magnitudes of their inputs are the same; else they compute alone.
    """

    def __init__(self, layers: Sequence[PackedLinear], around: nn.Module) -> None:
        """
        Args:
            layers: that are `joinable`, two or more; they are told.
            around: whose forward calls them.
        """
        self.layers = tuple(layers)
        self.agree = True
        self._open = False
        self._held: tuple[Tensor, int | None, object, dict[int, Tensor]] | None = None
        self._wasted = 0
        self._hooks = (  # kept, so that hooks of a model that was unpickled keep their numbers
            around.register_forward_pre_hook(self._begin),
            around.register_forward_hook(self._end, always_call=True),
        )
        self.compare()
        for place, layer in enumerate(self.layers):
            layer.siblings, layer.place = self, place

    def part(self, place: int, x: Tensor) -> Tensor | None:
        """The product [tokens, out features] of the layer at `place` with x; None where it must compute alone."""
        if not self._open or not self.agree or self._wasted >= MOST_WASTED:
            return None
        version, stream = _state_of(x)
        held = self._held
        if held is None or held[0] is not x or held[1] != version or held[2] != stream:
            if any(layer.qdata.device != x.device for layer in self.layers):
                return None
            self._drop()
            held = self._held = (x, version, stream, dict(enumerate(self._products(x))))
        y = held[3].pop(place, None)
        if not held[3]:
            self._held = None
            if self._wasted:
                self._wasted = 0
        return y

    def compare(self) -> None:
        """Look whether the layers' inputs are still quantized alike, after buffers were loaded."""
        first = self.layers[0]
        self.agree = all(joinable(first, layer) for layer in self.layers)

    def _products(self, x: Tensor) -> list[Tensor]:
        first = self.layers[0]
        choice = first.kernel
        assert choice.kernel.together is not None
        return choice.kernel.together(
            x.reshape(-1, first.in_features),
            [layer.qdata for layer in self.layers],
            [layer.scale for layer in self.layers],
            [layer.scale_2 for layer in self.layers],
            first.input_amax,
            first.input_outer_amax,
            [layer.bias for layer in self.layers],
            [layer.out_features for layer in self.layers],
            choice.key,
            choice.input_key,
        )

    def _begin(self, module: nn.Module, args: Any) -> None:
        self._drop()
        self._open = True

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        self._drop()
        self._open = False

    def _drop(self) -> None:
        if self._held is None:
            return
        self._held = None
        if torch.compiler.is_compiling():  # what is compiled is the same each time: once is enough
            self._wasted = MOST_WASTED
            return
        self._wasted += 1
        if self._wasted == MOST_WASTED:
            _log.warning("%d layers that read one value are called with different tensors: each computes alone",
                         len(self.layers))  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_open": False, "_held": None}


def joinable(first: PackedLinear, other: PackedLinear) -> bool:
    """Whether one call can compute both, given the same input: by one kernel, which quantizes it alike for both."""
    one, two = first.kernel, other.kernel
    alike = (
        one.kernel.together is not None
        and (one.kernel, one.key, one.input_key) == (two.kernel, two.key, two.input_key)
        and first.in_features == other.in_features
        and _is_identity(first.input_quantizer)
        and _is_identity(other.input_quantizer)
    )
    return alike and all(
        _same(getattr(first, name), getattr(other, name)) for name in ("input_amax", "input_outer_amax")
    )


def _is_identity(quantizer: nn.Module) -> bool:
    return type(quantizer) is nn.Identity


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.device == b.device and not a.is_meta and torch.equal(a, b)  # on meta: not known yet


def _state_of(x: Tensor) -> tuple[int | None, object]:
    """How often x was changed in place, and where what is computed now runs; None where not known."""
    if torch.compiler.is_compiling():
        return None, None
    return None if x.is_inference() else x._version, _place_of(x)


def _place_of(x: Tensor) -> object:
    """The stream, and whether it only records: what was recorded is not computed yet, or again in each replay."""
    if not x.is_cuda:
        return None
    return torch.cuda.current_stream(x.device), torch.cuda.is_current_stream_capturing()

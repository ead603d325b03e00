"""TensorQuantizer: fake-quantizes one tensor, and shows it to an observer while calibrating."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mtcore.errors import CalibrationError
from mtcore.formats import TensorFormat
from mtcore.numerics import (
    QParams,
    QTensor,
    block_amax,
    fake_quantize,
    qparams_from_amax,
    quantize,
    tensor_amax,
    token_matrix,
    weight_matrix,
)
from mtcore.recipe.setting import Mode


class Observer(Protocol):
    """Statistics of one tensor; fed by a quantizer while it calibrates."""

    def update(self, matrix: Tensor) -> None:
        """Take in one matrix [rows, cols] as the quantizer sees it."""


class TensorQuantizer(nn.Module):
    """Fake-quantizes one tensor: `forward(x)` has the shape, dtype and device of x.

    Attributes:
        format, mode: what is stored and when scales are worked out.
        channel_axis: of a weight, the axis that becomes the rows of its matrix; None for activations, whose rows
            are tokens.
        amax: fp32 [grid rows, grid cols], calibrated magnitudes of the blocks; None: taken from the tensor.
        outer_amax: fp32 [], calibrated magnitude behind the outer scale of a two-level format; None likewise.
        enabled: False makes `forward` the identity.
        observer: while set, every tensor is shown to it.

    The gradient is that of the identity (straight-through estimator, Bengio et al. 2013, arXiv:1308.3432).
    """

    amax: Tensor | None
    outer_amax: Tensor | None

    def __init__(self, fmt: TensorFormat, mode: Mode, *, channel_axis: int | None = None) -> None:
        super().__init__()
        self.format = fmt
        self.mode = mode
        self.channel_axis = channel_axis
        self.enabled = True
        self.observer: Observer | None = None
        self.register_buffer("amax", None)
        self.register_buffer("outer_amax", None)

    @property
    def is_weight(self) -> bool:
        return self.channel_axis is not None

    @property
    def calibrated(self) -> bool:
        """Whether `forward` has every statistic that must come from data. Weights are their own data."""
        if self.is_weight or self.mode == "dynamic":
            return True
        if self.format.outer is not None and self.outer_amax is None:
            return False
        return self.mode == "dynamic_blocks" or self.amax is not None

    def forward(self, x: Tensor) -> Tensor:
        if self.observer is not None:
            self.observer.update(self.matrix(x.detach()))
        if not self.enabled or x.numel() == 0:
            return x
        fake = self._from_matrix(fake_quantize(self.matrix(x.detach()), self.qparams(x.detach())), x)
        if torch.is_grad_enabled() and x.requires_grad:
            straight: Tensor = _StraightThrough.apply(x, fake)  # type: ignore[no-untyped-call]
            return straight
        return fake

    def matrix(self, x: Tensor) -> Tensor:
        """x as the matrix [rows, cols] that the format speaks of."""
        return token_matrix(x) if self.channel_axis is None else weight_matrix(x, self.channel_axis)

    def qparams(self, x: Tensor) -> QParams:
        """The scales that `forward(x)` uses.

        Raises:
            CalibrationError: a static scale was never calibrated.
        """
        if not self.calibrated:
            raise CalibrationError(
                f"a quantizer in {self.format.name} ({self.mode}) has no calibrated amax: run a calibration, or "
                "choose mode dynamic"
            )
        return self._qparams(self.matrix(x))

    def calibrated_qparams(self) -> QParams | None:
        """What an activation slot stores: its calibrated scales; None where everything is dynamic.

        In mode `dynamic_blocks` the inner scale is that of one block at the outer amax, a placeholder of shape
        [1, 1]; only `scale_2` is meant to be stored.
        """
        if self.mode == "dynamic" or not self.calibrated:
            return None
        amax = self.amax if self.mode == "static" else None
        if amax is None:
            assert self.outer_amax is not None, "a calibrated quantizer without any amax"
            amax = self.outer_amax.view(1, 1)
        return qparams_from_amax(amax, self.format, self.outer_amax)

    def quantize(self, x: Tensor) -> QTensor:
        """Codes and scales of x, with the very scales of `forward`."""
        matrix = self.matrix(x.detach())
        return quantize(matrix, self._qparams(matrix), shape=x.shape)

    def set_amax(self, amax: Tensor | None, outer_amax: Tensor | None) -> None:
        """Set the calibrated magnitudes (fp32 [grid rows, grid cols] and []); None leaves a level to the tensor."""
        self.amax = None if amax is None else amax.detach().float()
        self.outer_amax = None if outer_amax is None else outer_amax.detach().float().reshape(())

    def enable(self) -> None:
        """Quantize from now on."""
        self.enabled = True

    def disable(self) -> None:
        """Be the identity from now on; statistics stay."""
        self.enabled = False

    def extra_repr(self) -> str:
        state = "" if self.enabled else ", disabled"
        amax = self.outer_amax if self.outer_amax is not None else self.amax
        shown = "" if amax is None else f", amax={amax.max().item():.4g}"
        return f"{self.format.name}, {self.mode}{shown}{state}"

    def _qparams(self, matrix: Tensor) -> QParams:
        amax = block_amax(matrix, self.format.block) if self.amax is None else self.amax
        outer = self.outer_amax
        if outer is None and self.format.outer is not None:
            outer = tensor_amax(matrix)
        return qparams_from_amax(amax, self.format, outer)

    def _from_matrix(self, matrix: Tensor, like: Tensor) -> Tensor:
        if not self.channel_axis:
            return matrix.reshape(like.shape)
        moved = like.movedim(self.channel_axis, 0).shape
        return matrix.reshape(moved).movedim(0, self.channel_axis)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """A calibrated state may be loaded into a fresh quantizer, whose buffers do not exist yet."""
        for name in ("amax", "outer_amax"):
            stored = state_dict.get(prefix + name)
            if stored is not None and getattr(self, name) is None:
                setattr(self, name, torch.empty_like(stored))
        super()._load_from_state_dict(state_dict, prefix, *args)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, fake: Tensor) -> Tensor:
        return fake.view_as(fake)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None

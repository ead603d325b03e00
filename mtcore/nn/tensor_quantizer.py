"""TensorQuantizer: fake-quantizes one tensor, and shows it to an observer while calibrating."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from mtcore.backends import KernelChoice
from mtcore.backends.reference import qparams_of
from mtcore.errors import CalibrationError, FormatError
from mtcore.formats import PER_TENSOR, WHOLE, TensorFormat
from mtcore.nn.gradients import Gradient, with_gradient
from mtcore.nn.quantizer_state import QuantizerState
from mtcore.nn.rotation import Rotation
from mtcore.nn.sharded import is_sharded, on_shards
from mtcore.nn.views import ChannelView, MatrixView, TokenView
from mtcore.numerics import (
    QParams,
    QTensor,
    block_amax,
    fake_quantize,
    qparams_from_amax,
    qparams_from_range,
    quantize,
)
from mtcore.recipe.setting import Mode


class Observer(Protocol):
    """Statistics of one tensor; fed by a quantizer while it calibrates."""

    def update(self, matrix: Tensor) -> None:
        """Take in one matrix [rows, cols] as the quantizer sees it."""


class TensorQuantizer(QuantizerState):
    """Fake-quantizes one tensor: `forward(x)` has the shape, dtype and device of x.

    Order of work: view x as a matrix, × pre_quant_scale, rotate, − bias, show to the observer, round (unless
    disabled), + bias, rotate back (if the rotation says so), view back. Statistics are documented at
    `QuantizerState`.

    Attributes:
        format, mode: what is stored and when scales are worked out.
        constant_amax: what stands for the tensor's largest magnitude from the start; calibration leaves it alone.
            None where that comes from data.
        view: how x is seen as a matrix.
        enabled: False leaves out the rounding; a pre_quant_scale and a rotation stay, for the other factor of the
            product has theirs.
        observer: while set, every matrix is shown to it: the quantizer calibrates.
        rotation: a Hadamard transform of the columns, or None.
        gradient: what flows back through the rounding.
        kernel: rounds tensors on its device, bit for bit as `mtcore.numerics` does; None: numerics itself.
        rotating: rotates them there; None likewise.
    """

    format: TensorFormat
    mode: Mode
    view: MatrixView
    rotation: Rotation | None
    gradient: Gradient
    enabled: bool
    observer: Observer | None
    kernel: KernelChoice | None
    rotating: KernelChoice | None
    constant_amax: float | None

    def __init__(
        self,
        fmt: TensorFormat,
        mode: Mode,
        *,
        channel_axis: int | None = None,
        view: MatrixView | None = None,
        rotation: Rotation | None = None,
        gradient: Gradient = "straight",
        constant_amax: float | None = None,
    ) -> None:
        """
        Args:
            fmt, mode: see above.
            channel_axis: of a weight, the axis of its output channels, the rows of its matrix.
            view: instead of `channel_axis` where that does not say enough; without both, rows are tokens.
            rotation, gradient: see above.
            constant_amax: for an activation with one fixed scale of the whole tensor.
        """
        super().__init__()
        vars(self).update(  # nn.Module would ask of each whether it is a parameter: models have thousands
            format=fmt,
            mode=mode,
            view=view or (TokenView() if channel_axis is None else ChannelView(channel_axis)),
            rotation=rotation,
            gradient=gradient,
            enabled=True,
            observer=None,
            kernel=None,
            rotating=None,
            constant_amax=constant_amax,
        )
        if constant_amax is not None:
            amax = torch.tensor(constant_amax)
            self.set_amax(*((amax.reshape(1, 1), None) if fmt.outer is None else (None, amax)))

    @property
    def is_weight(self) -> bool:
        return isinstance(self.view, ChannelView)

    @property
    def idle(self) -> bool:
        """Whether `forward` does nothing at all: no rounding, no scaling, nobody watching."""
        rotated = self.rotation is not None and not self.rotation.back
        return not (self.enabled or self.observer is not None or self.pre_quant_scale is not None or rotated)

    @property
    def only_rounds(self) -> bool:
        """Whether `forward` is `fake_quantize` of the matrix and nothing else: not scaled, shifted or watched."""
        transforms = (self.pre_quant_scale, self.rotation, self.bias, self.observer)
        return self.enabled and all(transform is None for transform in transforms)

    @property
    def calibrated(self) -> bool:
        """Whether `forward` has every statistic that must come from data. Weights are their own data."""
        if self.is_weight or self.mode == "dynamic":
            return True
        if self.format.outer is not None and self.outer_amax is None:
            return False
        return self.mode == "dynamic_blocks" or (self.amax if self.format.symmetric else self.low) is not None

    def forward(self, x: Tensor) -> Tensor:
        if is_sharded(x):
            return on_shards(self, x, self.exact_when_cut)
        matrix = self.matrix(x)
        if self.observer is not None:
            self.observer.update(matrix.detach())
        if not self.enabled or x.numel() == 0:
            return x if self._stays else self._put_back(matrix, x)
        fake, qparams = self._rounded(x, matrix.detach() if matrix.requires_grad else matrix)
        if torch.is_grad_enabled() and (matrix.requires_grad or self.learns_amax):
            qparams = qparams or self.qparams(x, matrix=matrix.detach())
            fake = with_gradient(matrix, fake, qparams, self.gradient, self.amax if self.learns_amax else None)
        return self._put_back(fake, x)

    def unrounded(self, x: Tensor) -> Tensor:
        """What `forward` gives while disabled: x scaled and rotated, where it is, but not rounded."""
        return x if self._stays else self._put_back(self.matrix(x), x)

    def as_given(self, matrix: Tensor) -> Tensor:
        """The inverse of `matrix` on tokens by features: before they were shifted, rotated and scaled."""
        if self.bias is not None:
            matrix = matrix.float() + self.bias
        if self.rotation is not None:
            matrix = self._rotated(self.rotation, matrix, back=True)
        return matrix if self.pre_quant_scale is None else matrix.float() / self.pre_quant_scale

    def matrix(self, x: Tensor) -> Tensor:
        """What is rounded: x as the matrix [rows, cols] that the format speaks of, in its dtype; or in fp32, where
        it was scaled, rotated or shifted."""
        buffers = self._buffers  # asked directly: by way of nn.Module each takes as long as a small kernel
        matrix = self.view.to_matrix(x)
        if (scale := buffers["pre_quant_scale"]) is not None:
            matrix = matrix.float() * scale
        if self.rotation is not None:
            matrix = self._rotated(self.rotation, matrix, back=False)
        return matrix if (bias := buffers["bias"]) is None else matrix.float() - bias

    def qparams(self, x: Tensor, *, matrix: Tensor | None = None) -> QParams:
        """The scales that `forward(x)` uses; `matrix` is `self.matrix(x)` where the caller has it.

        Raises:
            CalibrationError: a static scale was never calibrated.
        """
        self._check_calibrated()
        matrix = self.matrix(x.detach()) if matrix is None else matrix
        if self.low is not None and self.high is not None:
            return qparams_from_range(self.low, self.high, self.format)
        return qparams_of(matrix, self.amax, self.outer_amax, self.format)

    def exact_when_cut(self, x: Tensor, axis: int, parts: int) -> bool:
        """Whether x, cut along an axis into equal parts that are quantized apart, gives what x would give whole:
        no scale is worked out across the cut, and nobody watches."""
        fmt = self.format
        if self.observer is not None or x.dim() < 2 or (fmt.outer is not None and self.outer_amax is None):
            return False
        calibrated = self.amax is not None or self.low is not None
        transformed = any(t is not None for t in (self.pre_quant_scale, self.rotation, self.bias))
        if fmt.block == PER_TENSOR and not transformed:
            return calibrated
        if fmt.block.rows != 1 or calibrated:
            return False
        view = self.view
        if axis != view.feature_axis % x.dim() if isinstance(view, TokenView) else axis == view.row_axis:
            return True  # every row of the matrix stays whole
        last_of_matrix = axis == x.dim() - 1 and (x.dim() == 2 or not self.is_weight)
        whole_blocks = fmt.block.cols != WHOLE and x.shape[axis] % (parts * fmt.block.cols) == 0
        return last_of_matrix and whole_blocks and not transformed

    def rounded_afresh(self, matrix: Tensor) -> Tensor:
        """Another matrix [rows, cols] as the format represents it, with scales of its own, for searches.

        Nothing calibrated plays a part, and it is neither scaled, rotated nor shifted.
        """
        kernel = self.kernel
        if kernel is not None and matrix.device.type == kernel.use.device.type:
            fake: Tensor = kernel.kernel.run(matrix, None, None, kernel.key)
            return fake
        return fake_quantize(matrix, qparams_of(matrix, None, None, self.format))

    def calibrated_qparams(self) -> QParams | None:
        """What an activation slot stores: its calibrated scales; None where everything is dynamic.

        In mode `dynamic_blocks` the inner scale is that of one block at the outer amax, a placeholder of shape
        [1, 1]; only `scale_2` is meant to be stored.
        """
        if self.mode == "dynamic" or not self.calibrated:
            return None
        if self.low is not None and self.high is not None:
            return qparams_from_range(self.low, self.high, self.format)
        amax = self.amax if self.mode == "static" else None
        if amax is None:
            assert self.outer_amax is not None, "a calibrated quantizer without any amax"
            amax = self.outer_amax.view(1, 1)
        return qparams_from_amax(amax.detach(), self.format, self.outer_amax)

    def quantize(self, x: Tensor) -> QTensor:
        """Codes and scales of `matrix(x)`, with the very scales of `forward`, in the dtype of x.

        The result dequantizes to x with its channel axis moved to the front; scaled, rotated and shifted as it
        was rounded.
        """
        x = x.detach()
        matrix = self.matrix(x)
        coded = quantize(matrix, self.qparams(x, matrix=matrix), shape=self.view.arranged(x).shape)
        return replace(coded, dtype=x.dtype)

    @property
    def learns_amax(self) -> bool:
        """Whether amax is a parameter that training changes."""
        return isinstance(self.amax, nn.Parameter)

    def learn_amax(self, x: Tensor | None = None) -> nn.Parameter:
        """Make amax a parameter, with the gradient of learned step sizes (LSQ, arXiv:1902.08153).

        Args:
            x: the tensor from whose blocks the first amax is taken, where none is calibrated: the weight.

        Raises:
            CalibrationError: there is neither an amax nor an x. FormatError: the format is asymmetric.
        """
        if not self.format.symmetric:
            raise FormatError(f"format {self.format.name!r}: its scales follow a range; no amax can be learned")
        if self.amax is not None:
            start = self.amax
        elif x is not None:
            start = block_amax(self.matrix(x.detach()), self.format.block)
        else:
            raise CalibrationError(
                f"a quantizer in {self.format.name} ({self.mode}) has no amax to learn from: calibrate first"
            )
        learned = nn.Parameter(start.detach().float().clone())
        self._buffers.pop("amax", None)
        self.register_parameter("amax", learned)
        return learned

    def enable(self) -> None:
        """Quantize from now on."""
        vars(self)["enabled"] = True

    def disable(self) -> None:
        """Leave out the rounding from now on; statistics stay."""
        vars(self)["enabled"] = False

    def extra_repr(self) -> str:
        state = "" if self.enabled else ", disabled"
        amax = self.outer_amax if self.outer_amax is not None else self.amax
        shown = "" if amax is None or amax.is_meta else f", amax={amax.max().item():.4g}"
        return f"{self.format.name}, {self.mode}{shown}{state}"

    def _rounded(self, x: Tensor, matrix: Tensor) -> tuple[Tensor, QParams | None]:
        """The fake-quantized matrix, and the scales where they were worked out apart."""
        kernel = self.kernel
        if kernel is not None and matrix.device.type == kernel.use.device.type:
            self._check_calibrated()
            amax = None if self.amax is None else self.amax.detach()
            return kernel.kernel.run(matrix, amax, self._buffers["outer_amax"], kernel.key), None
        qparams = self.qparams(x, matrix=matrix)
        return fake_quantize(matrix, qparams), qparams

    def _rotated(self, rotation: Rotation, matrix: Tensor, *, back: bool) -> Tensor:
        """The matrix rotated, or rotated back: fp32."""
        choice = self.rotating
        if choice is None or matrix.requires_grad or matrix.device.type != choice.use.device.type:
            return rotation.backward(matrix.float()) if back else rotation.forward(matrix.float())
        rotated: Tensor = choice.kernel.run(matrix, rotation.size or matrix.shape[-1], back)
        return rotated

    def _check_calibrated(self) -> None:
        if not self.calibrated:
            raise CalibrationError(
                f"a quantizer in {self.format.name} ({self.mode}) has no calibrated amax: run a calibration, or "
                "choose mode dynamic"
            )

    @property
    def _stays(self) -> bool:
        """Whether a tensor that is not rounded is given back as it is."""
        return self.pre_quant_scale is None and (self.rotation is None or self.rotation.back)

    def _put_back(self, matrix: Tensor, like: Tensor) -> Tensor:
        if (bias := self._buffers["bias"]) is not None:
            matrix = matrix.float() + bias
        if self.rotation is not None and self.rotation.back:
            matrix = self._rotated(self.rotation, matrix, back=True)
        return self.view.from_matrix(matrix if matrix.dtype == like.dtype else matrix.to(like.dtype), like)

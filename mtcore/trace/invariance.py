"""The numeric proof: random scales on fold groups must not change the model's outputs."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtcore.trace.channels import SymGroup
from mtcore.trace.folds import FoldGroup
from mtcore.trace.inputs import TraceInputs
from mtcore.trace.permutation import permute, random_order
from mtcore.trace.slices import Slices
from mtcore.trace.state import quiet_forward
from mtcore.trace.structure import map_tensors, tensors_in
from mtcore.trace.widen import widened

TOLERANCE = 1e-5
"""Relative change of the output. Norms that compute in float32 leave up to 2e-6 in a double-precision model;
a wrong group changes the output by percents."""


@dataclass(frozen=True)
class FoldCheck:
    """Largest relative change of an output by the fold, by its upper half alone, and by a fold with wrong channels.

    The group is right when `error` is small beside `effect`; the check has power when `control` is not.
    """

    group: str
    error: float
    effect: float
    control: float

    @property
    def exact(self) -> bool:
        return self.error <= 1e-3 * self.effect

    @property
    def powered(self) -> bool:
        return self.control >= 10 * self.error


class Invariance:
    """A double-precision copy of a model that runs on fixed inputs with scaled parameters.

    Where the model does not run in double precision the copy keeps its own.
    """

    def __init__(self, model: nn.Module, inputs: TraceInputs, *, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._inputs = inputs
        self._model = copy.deepcopy(model).double()
        self.double = True
        try:
            self._expected = self._run()
        except Exception:  # noqa: BLE001  some kernels have no double form, whatever they raise
            self._model, self.double = copy.deepcopy(model), False
            self._expected = self._run()
        self._parameters: dict[str, Tensor] = dict(self._model.named_parameters())

    def check(self, group: FoldGroup) -> FoldCheck:
        """Three forwards: the fold, its upper half, the fold with the channels below moved on by one."""
        scales = self.scales(group)
        half = FoldGroup(group.name, group.size, group.up, ())
        rolled = FoldGroup(group.name, group.size, group.up, tuple(_rolled(s, group.size) for s in group.down))
        return FoldCheck(
            group.name,
            self.change([(group, scales)]),
            self.change([(half, scales)]),
            self.change([(rolled, scales)]),
        )

    def scales(self, group: FoldGroup) -> Tensor:
        """Random factors in [0.5, 1.5], one a channel."""
        return torch.rand(group.size, generator=self._generator, dtype=torch.float64) + 0.5

    def change(self, folds: Sequence[tuple[FoldGroup, Tensor]]) -> float:
        """The largest change of an output by all the folds, relative to its largest value."""
        with self._applied(folds):
            return self._change()

    def change_by_order(self, groups: Sequence[SymGroup]) -> float:
        """The largest relative change of an output when the channels of all the groups change places at random."""
        names = {name for group in groups for name in group.parameters}
        with self._put_back(names), self._buffers_put_back():
            for group in groups:
                permute(self._model, self._parameters, group, random_order(group.size, self._generator))
            return self._change()

    @property
    def tolerance(self) -> float:
        """Of a change of the outputs that is rounding; larger where the model runs in its own precision."""
        if self.double:
            return TOLERANCE
        steps = (torch.finfo(p.dtype).eps for p in self._parameters.values() if p.is_floating_point())
        return max(TOLERANCE, 16 * max(steps, default=0.0))

    def _change(self) -> float:
        got = self._run()
        if len(got) != len(self._expected):
            return float("inf")
        return max((distance(a, b) for a, b in zip(got, self._expected, strict=True)), default=0.0)

    @contextmanager
    def _applied(self, folds: Sequence[tuple[FoldGroup, Tensor]]) -> Iterator[None]:
        with self._put_back({name for group, _ in folds for name in group.parameters}):
            for group, scales in folds:
                apply_fold(self._parameters, group, scales)
            yield

    @contextmanager
    def _buffers_put_back(self) -> Iterator[None]:
        before = [(buffer, buffer.clone()) for buffer in self._model.buffers()]
        try:
            yield
        finally:
            for buffer, value in before:
                buffer.copy_(value)

    @contextmanager
    def _put_back(self, names: Collection[str]) -> Iterator[None]:
        before = {name: self._parameters[name].detach().clone() for name in names}
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in before.items():
                    self._parameters[name].copy_(tensor)

    def _run(self) -> list[Tensor]:
        return run(self._model, self._inputs, double=self.double)


def run(model: nn.Module, inputs: TraceInputs, *, double: bool = False) -> list[Tensor]:
    """The output tensors of one quiet forward; `double` computes it in float64 all through."""

    def cast(tensor: Tensor) -> Tensor:
        return tensor.double() if double and tensor.is_floating_point() else tensor.clone()

    args, kwargs = map_tensors(inputs.args, cast), map_tensors(dict(inputs.kwargs), cast)
    with quiet_forward(model), widened() if double else nullcontext():
        torch.manual_seed(0)
        return [tensor.detach().clone() for tensor in tensors_in(model(*args, **kwargs))]


def apply_fold(parameters: Mapping[str, Tensor], group: FoldGroup, scales: Tensor) -> None:
    """Multiplies the upper slices in place by `scales[channel]` and divides the lower ones.

    Args:
        scales: [group.size] positive factors.
    """
    with torch.no_grad():
        for side in group.up:
            _scale(parameters[side.parameter], side, scales)
        for side in group.down:
            _scale(parameters[side.parameter], side, 1 / scales)


def _scale(parameter: Tensor, side: Slices, scales: Tensor) -> None:
    shape = [parameter.shape[axis] for axis in side.axes]
    factor = torch.ones(shape, dtype=scales.dtype).reshape(-1)
    factor[torch.tensor(side.indices)] = scales[torch.tensor(side.channels)]
    spread = factor.reshape([n if d in side.axes else 1 for d, n in enumerate(parameter.shape)])
    spread = spread.to(device=parameter.device, dtype=torch.promote_types(parameter.dtype, torch.float32))
    parameter.copy_((parameter + side.offset) * spread - side.offset)


def _rolled(side: Slices, size: int) -> Slices:
    return Slices(
        side.parameter, side.axes, side.indices, tuple((c + 1) % size for c in side.channels), side.offset
    )


def distance(a: Tensor, b: Tensor) -> float:
    """The largest difference relative to the largest value of `b`; infinite where one is not finite."""
    if a.shape != b.shape:
        return float("inf")
    if not a.numel() or not (a.is_floating_point() or a.is_complex()):
        return 0.0 if torch.equal(a, b) else float("inf")
    finite = torch.isfinite(b)
    if not torch.equal(torch.isfinite(a), finite):
        return float("inf")
    scale = b[finite].abs().max() if bool(finite.any()) else torch.ones(())
    return float((a - b)[finite].abs().max() / scale.clamp_min(1e-30)) if bool(finite.any()) else 0.0

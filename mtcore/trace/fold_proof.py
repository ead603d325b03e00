"""The proof of folds on the model itself: scaled by powers of two, run, and put back, in portions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mtcore.trace.bisect import failing
from mtcore.trace.folds import FoldGroup
from mtcore.trace.inputs import TraceInputs
from mtcore.trace.invariance import apply_fold, distance, run

EXPONENTS = (1, -1, 2, -2, 0)
"""Of the powers of two that scale the channels; dealt out evenly and shuffled."""
ROUNDS = 2
"""Draws of the scales: two exchanged channels have equal scales in at most one draw of five, so in 1 of 25 here."""
SAVED_BYTES = 2**31
"""Of the parameters that are scaled at once, and are kept twice meanwhile."""


def wrong_folds(
    model: nn.Module, folds: Sequence[FoldGroup], inputs: TraceInputs, *, saved_bytes: int = SAVED_BYTES
) -> list[FoldGroup]:
    """The folds that change the outputs of `model`, which is scaled in place and put back bit for bit.

    A power of two scales a float without rounding, so that a right fold leaves every output as it is, in any dtype;
    only where the model uses `w + offset` does the stored weight round. Folds are scaled together, as many as
    `saved_bytes` allow, and halved where the outputs change.
    """
    trial = _Trial.of(model, inputs)
    wrong: list[FoldGroup] = []
    for portion in _portions(folds, trial.parameters, saved_bytes):
        for draw in range(ROUNDS):
            left = [group for group in portion if group not in wrong]
            wrong += failing(left, lambda groups, draw=draw: trial.unchanged(groups, draw))  # type: ignore[misc]
    return wrong


@dataclass(frozen=True)
class _Trial:
    """A model with what it gives on its inputs; `noise` is how much that differs from one forward to the next."""

    model: nn.Module
    inputs: TraceInputs
    parameters: Mapping[str, Tensor]
    plain: Sequence[Tensor]
    noise: float = 0.0

    @classmethod
    def of(cls, model: nn.Module, inputs: TraceInputs) -> _Trial:
        parameters: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
        trial = cls(model, inputs, parameters, run(model, inputs))
        return replace(trial, noise=trial.change())

    def change(self) -> float:
        """The largest change of an output, relative to its largest value; infinite where the forward fails."""
        try:
            got = run(self.model, self.inputs)
        except Exception:  # noqa: BLE001  a forward that refuses the scaled weights is an answer
            return float("inf")
        if len(got) != len(self.plain):
            return float("inf")
        return max(map(distance, got, self.plain), default=0.0)

    def unchanged(self, groups: Sequence[FoldGroup], draw: int) -> bool:
        with self._put_back({name for group in groups for name in group.parameters}):
            for number, group in enumerate(groups):
                apply_fold(self.parameters, group, _scales(group.size, seed=draw + ROUNDS * number))
            return self.change() <= self._tolerance(groups)

    def _tolerance(self, groups: Sequence[FoldGroup]) -> float:
        """Above the noise, one step of the coarsest dtype; 16 steps where weights with an offset round.

        Such a weight is off by 1.5 steps at most (w = 0 scaled by 1/4), and float32 gets 1e-4, as later layers
        amplify: a wrong fold changes outputs by percents.
        """
        step = max(torch.finfo(p.dtype).eps for g in groups for p in (self.parameters[n] for n in g.parameters))
        if any(side.offset for group in groups for side in (*group.up, *group.down)):
            return 2 * self.noise + max(1e-4, 16 * step)
        return 2 * self.noise + max(1e-6, step)

    @contextmanager
    def _put_back(self, names: set[str]) -> Iterator[None]:
        before = {name: self.parameters[name].detach().clone() for name in sorted(names)}
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in before.items():
                    self.parameters[name].copy_(tensor)


def _scales(size: int, seed: int) -> Tensor:
    exponents = torch.tensor(EXPONENTS, dtype=torch.float64).repeat(size // len(EXPONENTS) + 1)[:size]
    return 2 ** exponents[torch.randperm(size, generator=torch.Generator().manual_seed(seed))]


def _portions(
    folds: Sequence[FoldGroup], parameters: Mapping[str, Tensor], saved_bytes: int
) -> Iterator[list[FoldGroup]]:
    """The folds in order, cut where the parameters of a portion would exceed `saved_bytes`; never an empty one."""
    portion: list[FoldGroup] = []
    touched: set[str] = set()
    for group in folds:
        after = touched | set(group.parameters)
        if portion and sum(parameters[name].nbytes for name in after) > saved_bytes:
            yield portion
            portion, after = [], set(group.parameters)
        portion.append(group)
        touched = after
    if portion:
        yield portion

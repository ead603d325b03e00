"""Removing channels for real: parameters get shorter, and the integers that say how long they are follow."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtcore.trace.channels import BlockGroup, SymGroup
from mtcore.trace.choice import without_alternatives
from mtcore.trace.inputs import TraceInputs
from mtcore.trace.invariance import distance, run
from mtcore.trace.slices import Slices

TOLERANCE = 1e-4
"""Largest error beside the effect of the masking: a wrong removal errs by about the effect itself."""


ROUNDING = 1e-12
"""What a shorter sum rounds differently, in float64: some thousand operations of 1e-16. Masks of less effect show
nothing, so an error below it speaks for nothing and against nothing."""


@dataclass(frozen=True)
class RemovalCheck:
    """Outcome for one group: 'ok', 'ok+attributes', 'shape' (the forward refuses), 'ragged' or 'mismatch'.

    `attributes` are the integer attributes that had to change, as 'module.attribute'.
    `effect`: relative change of the output by the masking; near zero the check has no power.
    """

    group: str
    outcome: str
    attributes: tuple[str, ...] = ()
    error: float = 0.0
    effect: float = 0.0


def check_removal(
    model: nn.Module,
    inputs: TraceInputs,
    group: SymGroup,
    channels: Sequence[int] | None = None,
    *,
    trial: Trial | None = None,
) -> RemovalCheck:
    """Removes channels from a copy and compares with a copy in which they are zero.

    Args:
        channels: which to remove; None takes the first quarter, at least one.
        trial: `Trial.of(model, inputs)`, where several groups of one model are checked.
    """
    chosen = set(range(max(1, group.size // 4)) if channels is None else channels)
    if len(chosen) >= group.size:
        return RemovalCheck(group.name, "single")
    trial = trial or Trial.of(model, inputs)
    masked = _masked(trial, group, chosen)
    effect = max(map(distance, masked, trial.plain), default=0.0)
    small = copy.deepcopy(trial.model)
    try:
        sizes = remove(small, group, chosen)
    except ValueError:
        return RemovalCheck(group.name, "ragged", effect=effect)
    good = max(TOLERANCE * effect, ROUNDING if trial.double else 0.0)
    error = trial.error(small, {}, masked)
    if error is not None and error <= good:
        return RemovalCheck(group.name, "ok", (), error, effect)
    candidates = _candidates(small, group, sizes, (group.size, group.size - len(chosen)))
    candidates, best = _settle(lambda some: trial.error(small, some, masked), candidates, good)
    if best is None or best > good:
        outcome = "shape" if error is None else "mismatch"
        return RemovalCheck(group.name, outcome, (), error or 0.0, effect)
    needed = dict(candidates)
    for key in candidates:  # the smallest set that works
        fewer = {k: v for k, v in needed.items() if k != key}
        again = trial.error(small, fewer, masked)
        if again is not None and again <= good:
            needed = fewer
    return RemovalCheck(group.name, "ok+attributes", tuple(f"{m}.{a}" for m, a in needed), best, effect)


def _masked(trial: Trial, group: SymGroup, channels: set[int]) -> list[Tensor]:
    """The outputs of the whole model that makes no use of the channels."""
    if isinstance(group, BlockGroup) and group.chosen_in:
        with without_alternatives(trial.model, group.chosen_in, group.size, channels):
            return trial.run(trial.model)
    model = copy.deepcopy(trial.model)
    mask(model, group, channels)
    return trial.run(model)


@dataclass(frozen=True)
class Trial:
    """A model in double precision where it runs so, with its inputs and its outputs."""

    model: nn.Module
    inputs: TraceInputs
    double: bool
    plain: Sequence[Tensor]

    @classmethod
    def of(cls, model: nn.Module, inputs: TraceInputs) -> Trial:
        double = copy.deepcopy(model).double()
        try:
            return cls(double, inputs, True, run(double, inputs, double=True))
        except Exception:  # noqa: BLE001  some kernels have no double form, whatever they raise
            return cls(model, inputs, False, run(model, inputs))

    def run(self, model: nn.Module) -> list[Tensor]:
        return run(model, self.inputs, double=self.double)

    def error(
        self, model: nn.Module, attributes: Mapping[tuple[str, str], int], expected: Sequence[Tensor]
    ) -> float | None:
        """The largest relative difference with these integer attributes, None when the forward raises."""
        before = {(m, a): getattr(model.get_submodule(m), a) for m, a in attributes}
        try:
            for (m, a), value in attributes.items():
                setattr(model.get_submodule(m), a, value)
            got = self.run(model)
        except Exception:  # noqa: BLE001  a forward that cannot run with the new shapes is the answer
            return None
        finally:
            for (m, a), value in before.items():
                setattr(model.get_submodule(m), a, value)
        return max(map(distance, got, expected), default=0.0) if len(got) == len(expected) else float("inf")


def mask(model: nn.Module, group: SymGroup, channels: set[int]) -> None:
    """Sets the channels' slices to zero, in place."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for part in group.members:
            parameter = parameters[part.parameter]
            gone = [i for i, c in zip(part.indices, part.channels, strict=True) if c in channels]
            shape = [parameter.shape[axis] for axis in part.axes]
            keep = torch.ones(shape).reshape(-1)
            keep[torch.tensor(gone)] = 0
            spread = keep.reshape([n if d in part.axes else 1 for d, n in enumerate(parameter.shape)])
            parameter.mul_(spread.to(parameter.dtype))


def remove(model: nn.Module, group: SymGroup, channels: set[int]) -> dict[tuple[str, int], tuple[int, int]]:
    """Cuts the channels' slices out of the parameters, and out of buffers that lie beside them, in place.

    Returns:
        Old and new length by (parameter, axis).

    Raises:
        ValueError: what would be left of a parameter is no rectangle.
    """
    gone: dict[tuple[str, int], set[int]] = {}
    parameters = dict(model.named_parameters())
    for part in group.members:
        for axis, indices in _rectangle(parameters[part.parameter], part, channels).items():
            gone.setdefault((part.parameter, axis), set()).update(indices)
    sizes = {}
    for (name, axis), indices in gone.items():
        parameter = parameters[name]
        old = parameter.shape[axis]
        keep = torch.tensor([i for i in range(old) if i not in indices], dtype=torch.long)
        if not keep.numel():
            raise ValueError("nothing would be left")
        parameter.data = parameter.data.index_select(axis, keep)
        sizes[name, axis] = (old, len(keep))
        if axis == 0:
            _cut_buffers(model.get_submodule(name.rpartition(".")[0]), old, keep)
    return sizes


def _rectangle(parameter: Tensor, part: Slices, channels: set[int]) -> dict[int, set[int]]:
    flat = [i for i, c in zip(part.indices, part.channels, strict=True) if c in channels]
    shape = [parameter.shape[axis] for axis in part.axes]
    hit = torch.zeros(shape, dtype=torch.bool).reshape(-1)
    hit[torch.tensor(flat, dtype=torch.long)] = True
    hit = hit.reshape(shape)
    if not part.axes:
        raise ValueError("a number has no channels")
    for place, axis in enumerate(part.axes):
        other = [d for d in range(len(shape)) if d != place]
        line = hit.all(dim=other) if other else hit
        if int(line.sum()) * (hit.numel() // shape[place]) == len(flat):
            return {axis: set(torch.nonzero(line).flatten().tolist())}
    raise ValueError("not a rectangle")


def _cut_buffers(module: nn.Module, old: int, keep: Tensor) -> None:
    for name, buffer in module.named_buffers(recurse=False):
        if buffer.dim() >= 1 and buffer.shape[0] == old:
            module.register_buffer(name, buffer.index_select(0, keep))


Attributes = dict[tuple[str, str], int]


def _settle(
    error: Callable[[Attributes], float | None], candidates: Attributes, good: float
) -> tuple[Attributes, float | None]:
    """A set of attributes that works: all, all but one, all but two, or the last error."""
    best = error(candidates)
    keys = list(candidates)
    for out in [set(pair) for n in (1, 2) for pair in itertools.combinations(keys, n)]:
        if best is not None and best <= good:
            break
        candidates_left = {k: v for k, v in candidates.items() if k not in out}
        again = error(candidates_left)
        if again is not None and again <= good:
            return candidates_left, again
    return candidates, best


def _candidates(
    model: nn.Module, group: SymGroup, sizes: Mapping[tuple[str, int], tuple[int, int]], blocks: tuple[int, int]
) -> dict[tuple[str, str], int]:
    """Integer attributes near the parameters that equal an old length or count, with their new value."""
    changes = dict(sizes.values())
    counts = {blocks[0]: blocks[1]}
    for old, new in sizes.values():  # also the length of one part of a fused parameter
        counts.update({old // n: new // n for n in (2, 3) if old % n == 0 and new % n == 0})
    owners: set[str] = set()
    for parameter in group.parameters:
        name = parameter.rpartition(".")[0]
        owners.add(name)
        for _ in range(2):
            name = name.rpartition(".")[0]
            owners.add(name)
    uncut: dict[str, set[int]] = {}  # lengths that stay: an attribute with that value may mean them
    for parameter in group.parameters:
        lengths = {n for d, n in enumerate(model.get_parameter(parameter).shape) if (parameter, d) not in sizes}
        uncut.setdefault(parameter.rpartition(".")[0], set()).update(lengths)
    found = {}
    for name in sorted(owners - {""}):
        for attribute, value in vars(model.get_submodule(name)).items():
            if type(value) is int and (value in changes or value in counts) and value not in uncut.get(name, ()):
                found[name, attribute] = changes.get(value, counts.get(value, value))
    return found

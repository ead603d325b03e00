"""Edits: values that calibration gave to parameters, and the originals to put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mtcore.errors import CalibrationError
from mtcore.nn.sharded import is_sharded


@dataclass
class ParameterEdits:
    """The first values of all parameters that were changed. The Parameter objects stay the same.

    Attributes:
        originals: the first values, with their parameters, by id.
        within: edits that must know of these too, for one step of several.
        keep: whether the first values are kept; where they are not, nothing can be put back, and parameters are
            scaled in place, without a second copy of the weights.
        unrounded: the values that parameters had before an algorithm rounded them, by id.
    """

    originals: dict[int, tuple[nn.Parameter, Tensor]] = field(default_factory=dict)
    within: ParameterEdits | None = None
    keep: bool = True
    unrounded: dict[int, Tensor] = field(default_factory=dict)

    def nested(self, *, keep: bool | None = None) -> ParameterEdits:
        """Edits of a part of the work: their first values are those at its start; `self` learns of them too.

        Args:
            keep: for a part that puts its own first values back for a while; as `self` does where None.
        """
        return ParameterEdits(within=self, keep=self.keep if keep is None else keep)

    @property
    def whole(self) -> ParameterEdits:
        """The edits of all steps together, whose originals are those of the model before calibration."""
        return self if self.within is None else self.within.whole

    def _remember(self, parameter: nn.Parameter) -> None:
        if self.keep:
            self.originals.setdefault(id(parameter), (parameter, parameter.data))
        if self.within is not None:
            self.within._remember(parameter)

    def before_rounding(self, parameter: nn.Parameter) -> Tensor:
        """The values that a parameter had before it was rounded; those that it has where it was not, or where none
        are kept."""
        return self.whole.unrounded.get(id(parameter), parameter.data)

    @torch.no_grad()
    def set(self, parameter: nn.Parameter, value: Tensor, *, rounding: bool = False) -> None:
        """Give a parameter new values, cast to its own dtype and device.

        Args:
            rounding: whether they are the present ones, rounded, and not the same function in another form, for
                which what was before an earlier rounding is forgotten.

        Raises:
            CalibrationError: the parameter is sharded, so that its values are not this rank's to change.
        """
        if is_sharded(parameter):
            raise CalibrationError(
                "this algorithm changes weights, but they are sharded over processes: take one that sets scales "
                "only, such as max, or calibrate replicas of the model (data parallel)"
            )
        self._remember(parameter)
        if rounding and self.whole.keep:
            self.whole.unrounded.setdefault(id(parameter), parameter.data)
        elif not rounding:
            self.whole.unrounded.pop(id(parameter), None)
        parameter.data = value.to(device=parameter.device, dtype=parameter.dtype, copy=True).view_as(parameter)

    def set_rounded(self, parameter: nn.Parameter, value: Tensor, part: int | None = None) -> None:
        """As `set` of rounded values; with `part`, of that matrix of a stack, which is copied once at most."""
        if part is None:
            self.set(parameter, value, rounding=True)
            return
        if self.whole.keep and id(parameter) not in self.whole.unrounded:
            self.set(parameter, parameter.data, rounding=True)
        self.writable(parameter, rounding=True)[part].copy_(value)

    def writable(self, parameter: nn.Parameter, *, rounding: bool = False) -> Tensor:
        """The values of a parameter, to be changed in place: a copy where its first values are kept.

        Args:
            rounding: as for `set`.

        Raises:
            CalibrationError: as in `set`.
        """
        if is_sharded(parameter) or self._must_stay(parameter):
            self.set(parameter, parameter.data, rounding=rounding)
        elif not rounding:
            self.whole.unrounded.pop(id(parameter), None)
        return parameter.data

    def _must_stay(self, parameter: nn.Parameter) -> bool:
        """Whether the present values are first values, here or within."""
        known = self.originals.get(id(parameter))
        here = self.keep and (known is None or known[1].data_ptr() == parameter.data_ptr())
        return here or (self.within is not None and self.within._must_stay(parameter))

    @contextmanager
    def originals_back(self) -> Iterator[None]:
        """All parameters have their first values meanwhile.

        Raises:
            CalibrationError: they are not kept.
        """
        if not self.keep:
            raise CalibrationError(
                "this algorithm compares with the original weights, and they are not kept: leave out undoable=False"
            )
        edited = [(parameter, parameter.data) for parameter, _ in self.originals.values()]
        for parameter, original in self.originals.values():
            parameter.data = original
        try:
            yield
        finally:
            for parameter, value in edited:
                parameter.data = value

    def undo(self) -> None:
        """Put all first values back: the very same tensors. Idempotent."""
        self.unrounded.clear()
        while self.originals:
            _, (parameter, original) = self.originals.popitem()
            parameter.data = original

"""A question about scales as a user writes it: PARAMETER[:AXIS[:INDEX]], checked against a model and answered."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from mtcore.errors import TraceError
from mtcore.trace import AxisPin, Explainer

_FORM = re.compile(r"(?P<parameter>[^:]+)(?::(?P<axis>\d+)(?::(?P<index>\d+))?)?")


@dataclass(frozen=True)
class ScaleQuery:
    """Which scale: of one index; of an axis (its first pinned index); or of every axis of a parameter."""

    parameter: str
    axis: int | None = None
    index: int | None = None

    @classmethod
    def parse(cls, text: str) -> ScaleQuery:
        """Reads 'lm_head.weight', 'lm_head.weight:0' or 'lm_head.weight:0:17'.

        Raises:
            TraceError: the text has another form.

        Example:
            >>> ScaleQuery.parse("lm_head.weight:0:17")
            ScaleQuery(parameter='lm_head.weight', axis=0, index=17)
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise TraceError(f"{text!r} is not of the form PARAMETER[:AXIS[:INDEX]], such as lm_head.weight:0:17")
        axis, index = (None if n is None else int(n) for n in (found["axis"], found["index"]))
        return cls(found["parameter"], axis, index)

    def on(self, model: nn.Module) -> ScaleQuery:
        """The same query by the parameter's first name, by which a trace knows a tied one.

        Raises:
            TraceError: no such parameter, or it has no such axis or index.
        """
        parameters = dict(model.named_parameters(remove_duplicate=False))
        if self.parameter not in parameters:
            near = difflib.get_close_matches(self.parameter, parameters, n=3, cutoff=0.3)
            guess = f"; did you mean {', '.join(near)}?" if near else ""
            raise TraceError(f"the model has no parameter named {self.parameter!r}{guess}")
        parameter = parameters[self.parameter]
        shape = "x".join(map(str, parameter.shape)) or "a single number"
        if self.axis is not None and self.axis >= parameter.dim():
            raise TraceError(f"{self.parameter} has no axis {self.axis}: it is {shape}")
        if self.index is not None and self.index >= parameter.numel():
            raise TraceError(f"axis {self.axis} of {self.parameter} has no index {self.index}: it is {shape}")
        first = next(name for name, other in parameters.items() if other is parameter)
        return ScaleQuery(first, self.axis, self.index)

    def ask(self, explainer: Explainer) -> tuple[AxisPin, ...]:
        """One answer, or one for every axis where none was named.

        Raises:
            TraceError: the forward did not use what was asked for.
        """
        if self.axis is not None and self.index is not None:
            return (explainer.scale(self.parameter, self.axis, self.index),)
        pins: Sequence[AxisPin] = tuple(explainer.axes([self.parameter]))
        chosen = tuple(pin for pin in pins if self.axis is None or pin.axes[-1:] == (self.axis,))
        if not chosen:
            where = "" if self.axis is None else f"axis {self.axis} of "
            raise TraceError(f"the forward gave {where}{self.parameter!r} no scale: was it used?")
        return chosen

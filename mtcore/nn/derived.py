"""Derived twins: quantized forms of classes that nobody declared one for; the trace told what they compute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from mtcore.nn.quant_module import QuantModule

Facts = Mapping[str, tuple[int, ...]]
"""What the trace found out about one module, as numbers by name; it is kept in the plan."""


class DerivedQuantModule(QuantModule):
    """A mixin whose twins are subclasses of it and of the original's own class, whatever that is.

    `isinstance` with the original class holds, `super().forward` is the original's forward, and instances can be
    copied and pickled wherever the original class can be imported.
    """

    original_class: ClassVar[type[nn.Module]]
    mixin: ClassVar[type[DerivedQuantModule]]
    facts: Facts

    @classmethod
    def from_original(cls, original: nn.Module, quantizers: Mapping[str, nn.Module]) -> QuantModule:
        """As QuantModule.from_original, for a class made for the original's type."""
        made = twin_class(cls, type(original))
        twin = super(DerivedQuantModule, made).from_original(original, quantizers)
        twin.__dict__.setdefault("facts", {})
        return twin

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _empty_twin, (type(self).mixin, type(self).original_class), self.__dict__


_CLASSES: dict[tuple[type[nn.Module], type[nn.Module]], type[DerivedQuantModule]] = {}


def twin_class(mixin: type[DerivedQuantModule], original: type[nn.Module]) -> type[DerivedQuantModule]:
    """The class of the twins of `original` under `mixin`; one a process."""
    made = _CLASSES.get((mixin, original))
    if made is None:
        body = {"original_class": original, "mixin": mixin, "__module__": original.__module__}
        made = _CLASSES[mixin, original] = type(f"Quant{original.__name__}", (mixin, original), body)
    return made


def _empty_twin(mixin: type[DerivedQuantModule], original: type[nn.Module]) -> DerivedQuantModule:
    cls = twin_class(mixin, original)
    return cls.__new__(cls)

"""Which record quantizes which module: the exact type, or a subclass that kept the original's forward."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from mtcore.nn.quant_module import QuantModule
from mtcore.nn.spec import QuantModuleSpec
from mtcore.nn.wrapped import is_replaced


@dataclass(frozen=True)
class Match:
    """The record for a module, or None and the reason why there is none.

    `kin`: the record of the nearest base class, where only its forward was overridden: rules that leave such
    layers alone mean this one too.
    """

    spec: QuantModuleSpec | None
    reason: str
    kin: QuantModuleSpec | None = None


def type_key(module: nn.Module) -> str:
    """How rules name a module's type: `nn.Linear` for torch's own layers, else the class name."""
    cls = type(module)
    return f"nn.{cls.__name__}" if cls.__module__.startswith("torch.nn.") else cls.__name__


def match_spec(module: nn.Module, specs: Iterable[QuantModuleSpec]) -> Match:
    """Find the record for a module.

    The record of its exact type comes first; then that of the nearest base class whose `forward` the module's
    class did not override. A module whose `forward` was replaced on the instance is never matched: a twin would
    not run the replacement. One that was only wrapped there is (see `wrapped`).
    """
    if isinstance(module, QuantModule):
        return Match(None, f"{type(module).__name__} is quantized already")
    if is_replaced(module):
        return Match(None, "its forward was replaced on the instance; a quantized twin would not run it")
    by_type = {spec.original: spec for spec in specs if spec.found_by == "type"}
    for base in type(module).__mro__:
        if base in by_type:
            if type(module).forward is base.forward:
                return Match(by_type[base], "")
            kin = by_type[base]
            return Match(None, f"{type(module).__name__} overrides the forward of {kin.name}", kin)
    return Match(None, f"no quantized form of {type_key(module)} is registered")

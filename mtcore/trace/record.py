"""ModuleRecord: what the recorder keeps of one module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, fx, nn


@dataclass(frozen=True)
class Values:
    """Copies of what went in and came out of a call, and the CPU generator's state before it."""

    inputs: tuple[object, ...]
    outputs: tuple[Tensor, ...]
    rng: Tensor


@dataclass
class ModuleRecord:
    """What was recorded of one module: its first complete call."""

    name: str
    graph: fx.Graph
    calls: int = 0
    complete: bool = False
    failure: str | None = None
    captured: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors that the module read from elsewhere, by the name of their get_attr node."""
    outer: Mapping[str, nn.Module] = field(default_factory=dict)
    """Modules that it called though they are not below it, by the target of their call_module node."""
    values: Values | None = None

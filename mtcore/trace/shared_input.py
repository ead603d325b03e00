"""SharedInputGroup: layers that read the very same value, and how they are found during a forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from mtcore.trace.structure import tensors_in
from mtcore.trace.values import ValueNumbers


@dataclass(frozen=True)
class SharedInputGroup:
    """Parameter-bearing modules, by dotted name in call order, that read one and the same value.

    They may share one input scale. Members can be of any type: a router or a norm that reads the
    same value as the projections is listed with them.

    Example:
        >>> str(SharedInputGroup("attn.{q,k,v}", ("attn.q", "attn.k", "attn.v")))
        'attn.{q,k,v}'
    """

    name: str
    modules: tuple[str, ...]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of(cls, modules: Sequence[str]) -> SharedInputGroup:
        """Names the group after its members: common prefix, then the differing ends in braces."""
        parts = [name.split(".") for name in modules]
        common = 0
        while len({tuple(p[: common + 1]) for p in parts}) == 1 and common < min(map(len, parts)) - 1:
            common += 1
        prefix = ".".join(parts[0][:common])
        ends = ",".join(".".join(p[common:]) for p in parts)
        return cls(f"{prefix}.{{{ends}}}" if prefix else f"{{{ends}}}", tuple(modules))


class InputReads:
    """Collects which value every parameter-bearing module reads, call by call.

    A module counts when it owns parameters and no module below it does. Its input is the first tensor
    among its arguments. A module called several times reads a sequence of values, and shares its input
    only with modules that read exactly the same sequence; one differing call is enough to separate them.
    Reads are the same when the value numbers and the last axis (the channels) agree.
    """

    def __init__(self, model: nn.Module, values: ValueNumbers) -> None:
        self._values = values
        self._readers = {id(m): name for name, m in model.named_modules() if _is_reader(m)}
        self._reads: dict[str, list[tuple[int, int]]] = {}

    def note(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        name = self._readers.get(id(module))
        tensors = tensors_in((args, kwargs)) if name is not None else []
        if name is not None and tensors:
            tensor = tensors[0]
            width = tensor.shape[-1] if tensor.dim() else 1
            self._reads.setdefault(name, []).append((self._values.number(tensor), width))

    def groups(self) -> tuple[SharedInputGroup, ...]:
        by_value: dict[tuple[tuple[int, int], ...], list[str]] = {}
        for name, reads in self._reads.items():
            by_value.setdefault(tuple(reads), []).append(name)
        return tuple(SharedInputGroup.of(names) for names in by_value.values() if len(names) > 1)


def _is_reader(module: nn.Module) -> bool:
    own = any(True for _ in module.parameters(recurse=False))
    return own and not any(True for child in module.children() for _ in child.parameters())

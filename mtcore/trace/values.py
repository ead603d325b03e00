"""Value numbers: two tensors have one number when they are known to hold the very same values."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_SAME = {
    torch.ops.aten.alias, torch.ops.aten.clone, torch.ops.aten.detach, torch.ops.aten.lift_fresh,
    torch.ops.aten._to_copy, torch.ops.aten._unsafe_view, torch.ops.aten.view, torch.ops.aten.view_copy,
    torch.ops.aten._reshape_alias, torch.ops.aten.squeeze, torch.ops.aten.unsqueeze,
}  # fmt: skip


class ValueNumbers:
    """Numbers the values of one forward; told of every dispatched operation before and after it ran.

    A reshape, a cast or a copy keeps the number of its operand.
    Any other operation without side effects and without randomness that is applied to the same numbers with
    the same arguments gives the same number again; everything else gets a new one.
    A write into a tensor renews the numbers of all tensors in its storage.
    """

    def __init__(self) -> None:
        self._fresh = itertools.count()
        self._known: dict[int, tuple[weakref.ref[Tensor], int, tuple[int, int]]] = {}
        self._writes: dict[int, int] = {}
        self._computed: dict[object, tuple[int, ...]] = {}

    def number(self, tensor: Tensor) -> int:
        """The number of what `tensor` holds now."""
        found = self._known.get(id(tensor))
        if found is not None and found[0]() is tensor and found[2] == self._stamp(tensor):
            return found[1]
        return self._learn(tensor, next(self._fresh))

    def before(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], writes: bool) -> object:
        """What the results are a function of: a number that they keep, a key, or None for "nothing known"."""
        if writes:
            return None
        if func.overloadpacket in _SAME:
            return self.number(args[0])
        return self._key(func, args, kwargs)

    def after(self, origin: object, results: Sequence[Tensor], written: Sequence[Tensor]) -> None:
        """Numbers the results of the operation for which `before` gave `origin`."""
        for tensor in written:
            storage = storage_key(tensor)
            self._writes[storage] = self._writes.get(storage, 0) + 1
        if written:
            return
        if isinstance(origin, int):
            self._learn(results[0], origin)
            return
        numbers = self._computed.get(origin) if origin is not None else None
        if numbers is None or len(numbers) != len(results):
            numbers = tuple(next(self._fresh) for _ in results)
            if origin is not None:
                self._computed[origin] = numbers
        for tensor, number in zip(results, numbers, strict=True):
            self._learn(tensor, number)

    def _key(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        if torch.Tag.nondeterministic_seeded in func.tags:
            return None
        key = (func, tuple(map(self._part, args)), tuple((k, self._part(v)) for k, v in kwargs.items()))
        try:
            hash(key)
        except TypeError:  # an argument that cannot be compared: identify the result with nothing
            return None
        return key

    def _part(self, value: object) -> object:
        if isinstance(value, Tensor):
            return (self.number(value), value.shape, value.dtype)
        if isinstance(value, (list, tuple)):
            return (list, *map(self._part, value))
        return (type(value), value)

    def _learn(self, tensor: Tensor, number: int) -> int:
        self._known[id(tensor)] = (weakref.ref(tensor), number, self._stamp(tensor))
        return number

    def _stamp(self, tensor: Tensor) -> tuple[int, int]:
        key = storage_key(tensor)
        return key, self._writes.get(key, 0)


def storage_key(tensor: Tensor) -> int:
    """An address of what the tensor's elements live in; its own for layouts without a storage."""
    if tensor.layout is not torch.strided:
        return id(tensor)
    return int(tensor.untyped_storage()._cdata)


_WRITERS: dict[Any, tuple[tuple[int, str], ...]] = {}


def written_arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that an ATen operation writes into, by its schema."""
    places = _WRITERS.get(func)
    if places is None:
        places = _WRITERS[func] = tuple(
            (i, a.name)
            for i, a in enumerate(func._schema.arguments)
            if a.alias_info is not None and a.alias_info.is_write
        )
    values = [args[i] if i < len(args) else kwargs.get(name) for i, name in places]
    return [tensor for value in values for tensor in flat_tensors(value)]


def operands_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The tensors among an operation's arguments, in order."""
    return [*flat_tensors(args), *flat_tensors(tuple(kwargs.values()))]


def is_continuous(dtype: torch.dtype) -> bool:
    """Whether numbers of this type have fractions; others are whole numbers and truth values."""
    return dtype.is_floating_point or dtype.is_complex


def flat_tensors(value: object) -> list[Tensor]:
    """The tensors of an operation's argument or result, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in flat_tensors(item)]
    return []

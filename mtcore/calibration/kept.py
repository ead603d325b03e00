"""Kept arguments: what a call was given, as it was then, to be given again as often as one likes."""

from __future__ import annotations

import io
import pickle
import types
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from mtcore.errors import CalibrationError
from mtcore.trace.state import exact_copy

_BY_REFERENCE = (
    *(nn.Module, type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType),
    *(torch.dtype, torch.device),
)
"""What a forward is not taken to change, or what cannot be copied and need not be."""


@dataclass(frozen=True)
class KeptArguments:
    """Arguments of one call. A forward may change what it is given, such as the cache of keys and values that it
    appends to, so that every look at them gives new objects; parameters and modules are the model's own.

    Attributes:
        structure: all that is no tensor, pickled; a tensor is a number there.
        leaves: what the numbers stand for.
    """

    structure: bytes
    leaves: tuple[Any, ...]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> KeptArguments:
        """Arguments whose tensors belong to nobody else, so that they need no copy."""
        return cls(*_pickled((args, dict(kwargs))))

    def as_kept(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with the kept tensors themselves, which must not be changed."""
        return _Unpickler(self.structure, self.leaves).load()  # type: ignore[no-any-return]

    def again(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as they were given."""
        return self.with_tensors(own_copy).as_kept()

    def with_tensors(self, kept: Callable[[Tensor], Tensor]) -> KeptArguments:
        """With other tensors of equal values; parameters stay."""
        return replace(self, leaves=tuple(kept(leaf) if _changes(leaf) else leaf for leaf in self.leaves))


class Keeper:
    """Keeps the arguments of calls; of a tensor that several calls get unchanged, one copy."""

    def __init__(self) -> None:
        self._copies: MutableMapping[Tensor, tuple[int, Tensor]] = WeakTensorKeyDictionary()

    def keep(self, block: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> KeptArguments:
        """The arguments as they are now.

        Raises:
            CalibrationError: one of them cannot be copied.
        """
        try:
            found = KeptArguments.of(args, kwargs)
        except Exception as error:  # whatever the __reduce__ of a stranger's class raises
            raise _uncopyable(block, args, kwargs, error) from error
        return replace(found, leaves=tuple(map(self._kept, found.leaves)))

    def _kept(self, leaf: Any) -> Any:
        if not _changes(leaf):
            return leaf
        if leaf.is_inference():  # which does not count its changes
            return own_copy(leaf)
        known = self._copies.get(leaf)
        if known is None or known[0] != leaf._version:
            known = leaf._version, own_copy(leaf)
            self._copies[leaf] = known
        return known[1]


def own_copy(tensor: Tensor) -> Tensor:
    """A tensor of the same values and strides that a forward may change."""
    return exact_copy(tensor) if type(tensor) is Tensor else tensor.detach().clone()


def _changes(leaf: Any) -> bool:
    """Whether a forward may write into it."""
    return isinstance(leaf, Tensor) and not isinstance(leaf, nn.Parameter)


def _pickled(value: object) -> tuple[bytes, tuple[Any, ...]]:
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(value)
    return file.getvalue(), tuple(pickler.leaves)


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.leaves: list[Any] = []
        self._numbers: dict[int, int] = {}

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, (Tensor, *_BY_REFERENCE)):
            return None
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self.leaves)
            self.leaves.append(value)
        return self._numbers[id(value)]


class _Unpickler(pickle.Unpickler):
    """Reads only what this process has just pickled."""

    def __init__(self, structure: bytes, leaves: Sequence[Any]) -> None:
        super().__init__(io.BytesIO(structure))
        self._leaves = leaves

    def persistent_load(self, number: int) -> Any:
        return self._leaves[number]


def _uncopyable(block: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], error: Exception) -> CalibrationError:
    for name, value in (*enumerate(args), *kwargs.items()):
        try:
            _pickled(value)
        except Exception as own:  # noqa: BLE001  as in `keep`
            which, error = f"argument {name!r}, a {type(value).__name__},", own
            break
    else:
        which = "arguments"
    return CalibrationError(
        f"{block or 'the model'}: its {which} cannot be copied ({type(error).__name__}: {error}), so that it "
        "cannot be run again on what it was given. Give data with which the model does not pass it (of a cache, "
        "`use_cache: False` in every batch), or teach its class to be pickled"
    )

"""Calls that are repeated: as much memory is asked for, the same kernels are started, nothing is worked out again.

Eager models make the same calls layer after layer and token after token, and to work out what a kernel is told
takes longer than many a kernel runs. So the first call of a kind is recorded: the memory that torch gave it, and
the kernels that it started. Where that is all it did, later calls of this kind repeat just that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from functools import wraps
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mtopt_kernels.parts import capturing, counters, kept_counters
from mtopt_kernels.restart import Restart, Started, can_restart, overhear, overhearing

F = TypeVar("F", bound=Callable[..., Any])

Room = tuple[torch.Size, torch.dtype]
"""Memory to be asked for."""

MOST_KEPT = 4096
"""Recordings that are kept: more kinds of calls than a model makes, fewer than texts of all lengths do."""

_KEPT: dict[Hashable, Recording | None] = {}
"""What was recorded, by all that a call depends on; None where it cannot be repeated."""
_UNKNOWN: Any = object()


class Recording(NamedTuple):
    """What a call did, its tensors numbered: those that it was given, the device's counters, those that it made.

    Attributes:
        made: sizes and dtypes of those that it made.
        counts: whether a kernel needs the counters.
        starts: of kernels.
        results: places among those that it made.
        form: makes of a list of results what the call returned.
    """

    made: Sequence[Room]
    counts: bool
    starts: Sequence[Restart]
    results: Sequence[int]
    form: Callable[[list[Tensor]], Any]

    def repeat(self, addresses: list[int], device: torch.device) -> Any:
        """Do it with other tensors, given by their addresses."""
        made = [torch.empty(size, dtype=dtype, device=device) for size, dtype in self.made]
        addresses.append(counters(device).data_ptr() if self.counts else 0)
        addresses += [tensor.data_ptr() for tensor in made]
        for start in self.starts:
            start(addresses, device)
        return self.form([made[place] for place in self.results])


def replayed(function: F, *, depends: Callable[[], Hashable] = lambda: None, rows: float = math.inf) -> F:
    """A function of a tensor and more, repeated where it does nothing but start kernels.

    It returns a tensor, or a list or tuple of them, in memory of its own. What it does follows from its arguments,
    and of those that are tensors, from dtype, shape, strides and alignment alone.

    Args:
        depends: gives what else it depends on.
        rows: of the first tensor, beyond which it is known to do more than start kernels.
    """

    @wraps(function)
    def call(*arguments: Any) -> Any:
        first: Tensor = arguments[0]
        device = first.device
        if first.shape[0] > rows or overhearing() or not can_restart(device):
            return function(*arguments)
        addresses: list[int] = []
        key = function, device, depends(), _kinds(arguments, addresses)
        known = _KEPT.get(key, _UNKNOWN)
        if known is None:
            return function(*arguments)
        if known is not _UNKNOWN:
            return known.repeat(addresses, device)
        if capturing(device):  # the counters could be the graph's own
            return function(*arguments)
        if len(_KEPT) >= MOST_KEPT:
            _KEPT.clear()
        result, _KEPT[key] = _recorded(function, arguments, addresses, device)
        return result

    return cast(F, call)


def _kinds(arguments: Sequence[Any], addresses: list[int]) -> Hashable:
    """All of arguments on which a call depends; collects the addresses of those that are tensors."""
    kinds: list[Hashable] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            address = argument.data_ptr()
            addresses.append(address)
            layout = argument.is_contiguous() or argument.stride()
            kinds += argument.dtype, argument.shape, layout, address % 16, argument.get_device()
        elif isinstance(argument, (list, tuple)):
            kinds.append(_kinds(argument, addresses))
        else:
            kinds.append(argument)
    return tuple(kinds)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees what torch does: memory that is made, views of it, and anything else."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.made: list[Tensor] = []
        self.computed = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.empty.memory_format:
            self.made.append(result)
        elif not (func.is_view and _share(result, args[0])):  # in inference mode what may copy counts as a view
            self.computed = True
        return result


def _share(one: Any, other: Any) -> bool:
    """Whether two are tensors in the same memory."""
    both = isinstance(one, Tensor) and isinstance(other, Tensor)
    return both and one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _recorded(
    function: Callable[..., Any], arguments: Sequence[Any], addresses: Sequence[int], device: torch.device
) -> tuple[Any, Recording | None]:
    """What a call returns, and what it did; None for that where it cannot be repeated."""
    with overhear() as starts, _Recorder() as recorder:
        result = function(*arguments)
    if recorder.computed or not all(tensor.device == device for tensor in recorder.made):
        return result, None
    zeros = kept_counters(device)
    known = [*addresses, 0 if zeros is None else zeros.data_ptr()]
    return result, _recording(known, recorder.made, starts, result)


def _recording(
    known: list[int], made: Sequence[Tensor], starts: Sequence[Started], result: Any
) -> Recording | None:
    """What a call did.

    Args:
        known: the addresses of what it was given, and the counters', their last, or 0.
        made: what it made, all of which is still there.

    Returns:
        None where it used other tensors, where two of them are at one address, at which they need not be again, and
        where a result is not all of something that it made.
    """
    results = list(result) if isinstance(result, (list, tuple)) else [result]
    used = {tensor.data_ptr() for start in starts for tensor in start.tensors()}
    used |= {tensor.data_ptr() for tensor in results}
    rooms = [tensor for tensor in made if tensor.numel() and tensor.data_ptr() in used]
    addresses = [*known, *(tensor.data_ptr() for tensor in rooms)]
    places = {address: place for place, address in enumerate(addresses) if address}
    if len(places) < len(addresses) - addresses.count(0) or not used <= {0, *places}:
        return None
    asked: list[Room] = [(tensor.shape, tensor.dtype) for tensor in rooms]
    returned: list[int] = []
    for tensor in results:
        place = places[tensor.data_ptr()] - len(known) if tensor.numel() else len(asked)
        if place == len(asked):
            asked.append((tensor.shape, tensor.dtype))  # nothing has no address
        elif place < 0 or place in returned or tensor.nbytes < rooms[place].nbytes or not tensor.is_contiguous():
            return None
        asked[place] = tensor.shape, tensor.dtype  # as which kernels may not have seen it
        returned.append(place)
    restarts = [restart for start in starts if (restart := start.at(places)) is not None]
    if len(restarts) < len(starts):
        return None
    counts = any(number == len(known) - 1 for restart in restarts for _, number in restart.places)
    form: Callable[[list[Tensor]], Any] = type(result) if isinstance(result, (list, tuple)) else _only
    return Recording(asked, counts, restarts, returned, form)


def _only(results: list[Tensor]) -> Tensor:
    return results[0]

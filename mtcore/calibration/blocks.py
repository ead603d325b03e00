"""Blocks: the repeated part of a model, replayed one block at a time from recorded calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtcore.calibration.kept import Keeper, KeptArguments, own_copy
from mtcore.calibration.loop import ForwardLoop, calibration_mode
from mtcore.errors import CalibrationError

WHOLE_MODEL = ""
"""The name of the model itself, as a block."""


@dataclass(frozen=True)
class BlockCall:
    """One call of a block; `place` is where the hidden state goes: an index of the arguments, or a keyword.

    A whole model taken as one block has no hidden state, and None for its place.
    """

    kept: KeptArguments
    place: int | str | None

    def run(self, block: nn.Module, hidden: Tensor) -> Tensor:
        """The block's output for another hidden state. What the block changes of its arguments is forgotten."""
        args, kwargs = self.arguments(hidden)
        output = block(*args, **kwargs)
        return hidden if self.place is None else first_tensor(output)

    def arguments(self, hidden: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """All arguments of the call, with another hidden state: for one forward, which may change them."""
        args, kwargs = self.kept.again()
        hidden = own_copy(hidden)
        if isinstance(self.place, int):
            args = (*args[: self.place], hidden, *args[self.place + 1 :])
        elif self.place is not None:
            kwargs[self.place] = hidden
        return args, kwargs


@dataclass(frozen=True)
class BlockInputs:
    """All that one block was called with.

    Attributes:
        name: of the block.
        calls: one a batch, without the hidden state.
        original: the hidden states that enter it in the original model, one a batch.
        changed: likewise in the model whose earlier blocks are quantized.
    """

    name: str
    calls: Sequence[BlockCall]
    original: Sequence[Tensor]
    changed: Sequence[Tensor]


@dataclass(frozen=True)
class BlockRecording:
    """What a model's blocks were called with, batch by batch.

    Attributes:
        names: of the blocks, in the order of their calls; each one's output is the next one's hidden state.
        calls: for every block, one call a batch, without the hidden state.
        hidden: the hidden state that enters the first block, one a batch.
        place: where it goes, in all calls; None for a whole model.
        rests: what each block returned beside its hidden state on the first batch; None where that is all.
    """

    names: tuple[str, ...]
    calls: tuple[tuple[BlockCall, ...], ...]
    hidden: tuple[Tensor, ...]
    place: int | str | None
    rests: tuple[tuple[Any, ...] | None, ...]


def find_blocks(model: nn.Module, wanted: Sequence[str]) -> tuple[str, ...]:
    """Names of the children of the list that holds most of the wanted modules; the model itself if there is none.

    A list is an nn.ModuleList or nn.Sequential with at least two children. Of equals the outermost wins.
    """
    best: tuple[str, ...] = (WHOLE_MODEL,)
    most = 0
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or len(module) < 2:
            continue
        prefix = f"{name}." if name else ""
        children = tuple(f"{prefix}{child}" for child, _ in module.named_children())
        held = sum(any(inside(w, child) for child in children) for w in wanted)
        if held > most:
            best, most = children, held
    return best


def inside(module: str, block: str) -> bool:
    """Whether the module of that name is the block or a part of it."""
    return block == WHOLE_MODEL or module == block or module.startswith(f"{block}.")


def record_blocks(model: nn.Module, names: Sequence[str], forward_loop: ForwardLoop) -> BlockRecording:
    """Run the data once and remember how the blocks are called.

    Raises:
        CalibrationError: the blocks do not form a chain: one is not called, or not once a forward, or does not read
            the output of the one before.
    """
    watch = _Watch(names)
    handles = []
    try:
        for index, name in enumerate(names):
            block = model.get_submodule(name)
            handles.append(block.register_forward_pre_hook(watch.before(index), with_kwargs=True))
            handles.append(block.register_forward_hook(watch.after(index)))
        with calibration_mode(model):
            forward_loop(model)
    finally:
        for handle in handles:
            handle.remove()
    return watch.recording()


class CalledBlock(nn.Module):
    """A block as a module without inputs, which gives all that the block returns on one call."""

    def __init__(self, block: nn.Module, call: BlockCall, hidden: Tensor) -> None:
        super().__init__()
        self.block = block
        self._inputs = call, hidden

    def forward(self) -> Any:
        call, hidden = self._inputs
        args, kwargs = call.arguments(hidden)
        return self.block(*args, **kwargs)


def first_tensor(output: Any) -> Tensor:
    """A block's hidden state: its output, or the first item of a tuple."""
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


class _Watch:
    """Collects calls while a model runs."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.calls: list[list[KeptArguments]] = [[] for _ in names]
        self.keeper = Keeper()
        self.places: set[int | str] = set()
        self.last: Tensor | None = None
        self.rests: dict[int, tuple[Any, ...] | None] = {}

    def before(self, index: int) -> Any:
        def hook(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if len(self.calls[index]) != len(self.calls[0]) - (index > 0):
                raise self._broken(index, "is not called once a forward, after the one before it")
            if index:
                place = _find(args, kwargs, self.last)
                if place is None:
                    raise self._broken(index, "does not read the output of the one before it")
                self.places.add(place)
                args, kwargs = without_hidden((args, kwargs), place)
            self.calls[index].append(self.keeper.keep(self.names[index], args, kwargs))

        return hook

    def after(self, index: int) -> Any:
        def hook(block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self.last = first_tensor(output)
            self.rests.setdefault(index, output[1:] if isinstance(output, tuple) else None)

        return hook

    def recording(self) -> BlockRecording:
        if self.names == (WHOLE_MODEL,):
            whole = tuple(BlockCall(kept, None) for kept in self.calls[0])
            return BlockRecording(self.names, (whole,), tuple(torch.empty(0) for _ in whole), None, (None,))
        counts = {len(calls) for calls in self.calls}
        if counts == {0} or len(counts) != 1 or len(self.places) != 1:
            raise CalibrationError(
                f"the blocks {self.names[0]} … {self.names[-1]} are not called one after the other on every batch"
            )
        place = self.places.pop()
        hidden = []
        for number, kept in enumerate(self.calls[0]):
            args, kwargs = kept.as_kept()
            found = hidden_of(args, kwargs, place)
            if found is None:
                raise self._broken(0, "takes its hidden state elsewhere than the others")
            hidden.append(found)
            self.calls[0][number] = KeptArguments.of(*without_hidden((args, kwargs), place))
        calls = tuple(tuple(BlockCall(kept, place) for kept in calls) for calls in self.calls)
        rests = tuple(self.rests[index] for index in range(len(self.names)))
        return BlockRecording(self.names, calls, tuple(hidden), place, rests)

    def _broken(self, index: int, what: str) -> CalibrationError:
        return CalibrationError(f"{self.names[index]}: {what}: the blocks form no chain")


def hidden_of(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int | str) -> Tensor | None:
    """The hidden state of a call, or None where there is none at this place."""
    found = args[place] if isinstance(place, int) and place < len(args) else kwargs.get(str(place))
    return found if isinstance(found, Tensor) else None


def _find(args: tuple[Any, ...], kwargs: Mapping[str, Any], hidden: Tensor | None) -> int | str | None:
    for index, value in enumerate(args):
        if value is hidden:
            return index
    return next((key for key, value in kwargs.items() if value is hidden), None)


def without_hidden(
    call: tuple[tuple[Any, ...], dict[str, Any]], place: int | str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call without its hidden state, which is not kept alive."""
    args, kwargs = call
    if isinstance(place, int):
        return (*args[:place], None, *args[place + 1 :]), kwargs
    return args, {**kwargs, place: None}

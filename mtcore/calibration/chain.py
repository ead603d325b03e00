"""Chains: what the blocks of a model are called with, found out without running the blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mtcore.calibration.blocks import BlockCall, BlockRecording, hidden_of, record_blocks, without_hidden
from mtcore.calibration.kept import Keeper, KeptArguments
from mtcore.calibration.loop import calibration_mode, forward_batch
from mtcore.errors import CalibrationError
from mtcore.trace.structure import tensors_in


@dataclass(frozen=True)
class BlockChain:
    """Blocks that follow each other: the output of one is the hidden state of the next.

    Attributes:
        names: of the blocks, in the order of their calls.
        place: of the hidden state in each call: an index of the arguments, or a keyword.
        rests: what each block returns beside its hidden state, tensors without values (on the meta device); None
            where that is all. A `Handed` is one of its own arguments.
        table: whether later blocks read what the first one returns beside its hidden state, which does not depend
            on that: a bias of positions, say. The first block is run then to find the calls of the others.
    """

    names: tuple[str, ...]
    place: int | str
    rests: tuple[tuple[Any, ...] | None, ...]
    table: bool = False


@dataclass(frozen=True)
class Handed:
    """What a block hands on as it was given it: the number of this tensor among its arguments."""

    argument: int


def learn_chain(model: nn.Module, names: Sequence[str], batch: Any) -> BlockChain:
    """Run the whole model once on one batch, and see how its blocks follow each other.

    Raises:
        CalibrationError: they form no chain, or run several times a forward; or something else that they compute is
            read by later blocks, or by what follows. Such a model can only be calibrated as a whole.
    """
    recording = record_blocks(model, names, lambda whole: forward_batch(whole, batch))
    assert recording.place is not None, "a list of blocks"
    if len(recording.hidden) != 1:
        raise CalibrationError(f"{names[0]}: it runs {len(recording.hidden)} times a forward, {_ONLY_WHOLE}")
    chain = BlockChain(recording.names, recording.place, tuple(map(_without_values, recording.rests)))
    found = _calls_of(model, chain, batch)
    if _differing(recording, found) and _makes_a_table(model, recording):
        handed = tuple(_handed(call, rest) for (call,), rest in zip(recording.calls, recording.rests, strict=True))
        chain = replace(chain, rests=handed, table=True)
        found = _calls_of(model, chain, batch)
    for name in _differing(recording, found):
        raise CalibrationError(f"{name}: it reads values that the blocks before it computed, {_ONLY_WHOLE}")
    with calibration_mode(model):
        _check_state(model, recording, found)
    return chain


def _calls_of(model: nn.Module, chain: BlockChain, batch: Any) -> tuple[BlockCall, ...]:
    """The calls that a chain gives, and whether what follows the blocks runs."""
    try:
        hidden, found = chain_calls(model, chain, batch)
        run_around(model, chain, batch, hidden)
    except Exception as error:  # a model that meets a tensor without values may raise anything
        names, reason = chain.names, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise CalibrationError(
            f"{names[0]} … {names[-1]}: what they return beside the hidden state is used, {_ONLY_WHOLE} ({reason})"
        ) from error
    return found


def _differing(recording: BlockRecording, found: Sequence[BlockCall]) -> list[str]:
    """The blocks whose calls are not those of the recording."""
    pairs = zip(recording.names, recording.calls, found, strict=True)
    return [name for name, (real,), call in pairs if not _same(real, call)]


def _makes_a_table(model: nn.Module, recording: BlockRecording) -> bool:
    """Whether the first block returns the same beside its hidden state whatever that is."""
    (call,), (hidden,) = recording.calls[0], recording.hidden
    block = model.get_submodule(recording.names[0])
    args, kwargs = call.arguments(hidden.flip(-1) / 2)
    with calibration_mode(model):
        output = block(*args, **kwargs)
    return isinstance(output, tuple) and _same_tensors(tensors_in(output[1:]), tensors_in(recording.rests[0]))


def _handed(call: BlockCall, rest: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    """What a block returned, with `Handed` where that is one of its arguments, and else without values."""
    if rest is None:
        return None
    given = tensors_in(call.kept.as_kept())

    def of(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return _without_values(value)
        same = (n for n, own in enumerate(given) if own.shape == value.shape and _same_tensors([own], [value]))
        found = next(same, None)
        return _without_values(value) if found is None else Handed(found)

    return tuple(map(of, rest))


def _check_state(model: nn.Module, recording: BlockRecording, found: Sequence[BlockCall]) -> None:
    """Refuse blocks that read what earlier ones left in an object, such as a cache that most only write to.

    Where such an object differs without the earlier blocks, a block is run with either.
    """
    pairs = zip(recording.calls, found, strict=True)
    if all(_same_tensors(real.kept.leaves, call.kept.leaves) for (real,), call in pairs):
        return
    (hidden,) = recording.hidden
    for name, (real,), call in zip(recording.names, recording.calls, found, strict=True):
        block = model.get_submodule(name)
        expected = real.run(block, hidden)
        try:
            same, reason = torch.equal(call.run(block, hidden), expected), ""
        except Exception as error:  # noqa: BLE001  a block that misses what it looks for may raise anything
            same, reason = False, f" ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
        if not same:
            raise CalibrationError(f"{name}: it reads what the blocks before it left, {_ONLY_WHOLE}{reason}")
        hidden = expected


def _without_values(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to("meta")
    if type(value) in (tuple, list):
        return type(value)(map(_without_values, value))
    if type(value) is dict:
        return {key: _without_values(item) for key, item in value.items()}
    return value


_ONLY_WHOLE = "so that the blocks cannot be run one by one; calibrate the model as a whole (without --layerwise)"


def chain_calls(model: nn.Module, chain: BlockChain, batch: Any) -> tuple[Tensor, tuple[BlockCall, ...]]:
    """What enters the first block on a batch, and one call a block. Only what lies before the blocks is run.

    Where the first block makes a table for the others, it is run as well.
    """
    seen: list[KeptArguments] = []
    keeper = Keeper()
    entered: list[Tensor] = []

    def note(index: int, hidden: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        entered.append(hidden)
        seen.append(keeper.keep(chain.names[index], *without_hidden((args, kwargs), chain.place)))
        if index == len(chain.names) - 1:
            raise _LastBlockReached
        return hidden

    with (
        _stand_ins(model, chain, note, makes_table=chain.table),
        calibration_mode(model),
        suppress(_LastBlockReached),
    ):
        forward_batch(model, batch)
    assert len(seen) == len(chain.names), "a chain whose last block was not reached"
    return entered[0], tuple(BlockCall(kept, chain.place) for kept in seen)


def run_around(model: nn.Module, chain: BlockChain, batch: Any, hidden: Tensor) -> Any:
    """Run what lies around the blocks, with `hidden` for what the last block returns; gives the model's output."""

    def pass_on(index: int, given: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        return hidden if index == len(chain.names) - 1 else given

    with _stand_ins(model, chain, pass_on), calibration_mode(model):
        return forward_batch(model, batch)


class AroundBlocks(nn.Module):
    """What lies around the blocks, as a module without inputs: see `run_around`."""

    def __init__(self, model: nn.Module, chain: BlockChain, batch: Any, hidden: Tensor) -> None:
        super().__init__()
        self.model = model
        self._inputs = chain, batch, hidden

    def forward(self) -> Any:
        return run_around(self.model, *self._inputs)


class SharedTensors:
    """Keeps one of equal tensors: masks and position tables are the same for most blocks and batches."""

    _COMPARED = 8  # of the latest tensors; masks that differ from batch to batch need not be held against all

    def __init__(self) -> None:
        self._known: list[Tensor] = []

    def calls(self, calls: Sequence[BlockCall]) -> tuple[BlockCall, ...]:
        """The calls, with tensors that are already known in place of equal ones."""
        seen: dict[int, Tensor] = {}

        def known(tensor: Tensor) -> Tensor:
            if id(tensor) not in seen:
                seen[id(tensor)] = self._known_or_new(tensor)
            return seen[id(tensor)]

        return tuple(BlockCall(call.kept.with_tensors(known), call.place) for call in calls)

    def _known_or_new(self, tensor: Tensor) -> Tensor:
        for known in self._known[-self._COMPARED :]:
            if known.dtype == tensor.dtype and torch.equal(known, tensor):
                return known
        self._known.append(tensor)
        return tensor


class _LastBlockReached(Exception):  # noqa: N818  it ends a forward early; nothing is wrong
    pass


_StandIn = Callable[[int, Tensor, tuple[Any, ...], dict[str, Any]], Tensor]
"""(number of the block, its hidden state, its arguments) → the hidden state that it passes on."""


@contextmanager
def _stand_ins(
    model: nn.Module, chain: BlockChain, stand_in: _StandIn, *, makes_table: bool = False
) -> Iterator[None]:
    """Meanwhile the blocks return what the stand-in says; but for a table of the first one they compute nothing."""
    blocks = [model.get_submodule(name) for name in chain.names]
    before = [vars(block).get("forward") for block in blocks]

    def table(hidden: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        kept = Keeper().keep(chain.names[0], *without_hidden((args, kwargs), chain.place))
        args, kwargs = BlockCall(kept, chain.place).arguments(hidden)
        forward = before[0] or type(blocks[0]).forward.__get__(blocks[0])
        return tuple(forward(*args, **kwargs))[1:]

    def forward_of(index: int) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden = hidden_of(args, kwargs, chain.place)
            assert hidden is not None, f"{chain.names[index]} was called without a hidden state"
            passed, rest = stand_in(index, hidden, args, kwargs), chain.rests[index]
            if rest is None:
                return passed
            if makes_table and index == 0:
                return (passed, *table(hidden, args, kwargs))
            given = tensors_in(without_hidden((args, kwargs), chain.place))
            return (passed, *(given[one.argument] if isinstance(one, Handed) else one for one in rest))

        return forward

    try:
        for index, block in enumerate(blocks):
            vars(block)["forward"] = forward_of(index)
        yield
    finally:
        for block, own in zip(blocks, before, strict=True):
            del vars(block)["forward"]
            if own is not None:
                vars(block)["forward"] = own


def _same(one: BlockCall, other: BlockCall) -> bool:
    return _same_tensors(tensors_in(one.kept.as_kept()), tensors_in(other.kept.as_kept()))


def _same_tensors(some: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether these are the same, in order; of other things than tensors only how many there are is asked."""
    if len(some) != len(others):
        return False
    pairs = [(a, b) for a, b in zip(some, others, strict=True) if isinstance(a, Tensor) and isinstance(b, Tensor)]
    return all(a.device == b.device and torch.equal(a, b) for a, b in pairs)

"""Repeats: a block of the model that does just what one before it did is recognised, and not analysed again.

Two blocks are alike when they have the same class and the same parameters by name and shape, run the same
operations with the same arguments in the same order, and when what enters them has the same labels. Then the
relations of the second are those of the first with the parameters renamed, as long as no label of a block's own
parameters leaves it: a solution of one is a solution of the other. Only the first is analysed; `copies` names the
others.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mtcore.trace.planes import Shadow, alike
from mtcore.trace.rules.context import Call
from mtcore.trace.values import is_continuous, storage_key

Name = tuple[object, ...]
"""A tensor inside a block: ('own', parameter), ('in', number) for one from outside, ('out', step, number)."""

MOST_ORIGINALS = 4
"""Blocks of one signature that differ in what they do, of which each is remembered; more would cost, not help."""


@dataclass(frozen=True)
class Step:
    """One operation of a block; `shadows` of its operands are kept where a rule may answer in its place."""

    key: object
    results: object
    shadows: tuple[Shadow, ...]


@dataclass
class Waiting:
    """An operation that has run and whose rule has not: it may turn out to be a repetition."""

    call: Call
    operands: Sequence[Tensor]
    written: Sequence[Tensor]
    outs: Sequence[Tensor]


@dataclass
class Block:
    """A block while it runs, and what is remembered of it."""

    module: str
    own: Mapping[int, str]
    candidates: list[Block]
    steps: list[Step] = field(default_factory=list)
    inputs: list[tuple[object, Shadow]] = field(default_factory=list)
    numbers: dict[Name, Tensor] = field(default_factory=dict)
    """The contents of operands that hold whole numbers: rules read them."""
    results: dict[Name, Shadow] = field(default_factory=dict)
    """What outlived the block."""
    waiting: list[Waiting] = field(default_factory=list)
    sound: bool = True
    _names: dict[int, Name] = field(default_factory=dict)
    _alive: list[Tensor] = field(default_factory=list)
    _outside: set[int] = field(default_factory=set)
    _reads: set[int] = field(default_factory=set)

    @property
    def following(self) -> bool:
        return bool(self.candidates)

    def before(self, call: Call, operands: Sequence[Tensor], written: Sequence[Tensor], shadow: Any) -> object:
        """Compares the operation about to run with those of the candidates; returns its key."""
        for tensor in operands:
            self._name(tensor, shadow)
            if not any(tensor is t for t in written):
                self._read(tensor)
        if any(id(t) in self._reads or storage_key(t) in self._outside for t in written):
            self.sound = False  # a rule that waits would read other numbers, or others see the write
        if torch.Tag.inplace_view in call.func.tags:
            self.sound = False
        module = call.module.removeprefix(self.module)
        key = (call.func, module, self._part(call.args), self._part(tuple(call.kwargs.items())))
        number = len(self.steps)
        self._keep(lambda c: number < len(c.steps) and c.steps[number].key == key)
        if not self.sound:
            self.candidates.clear()
        return key

    def after(self, func: Any, key: object, outs: Sequence[Tensor], shadows: tuple[Shadow, ...]) -> None:
        number = len(self.steps)
        results = tuple(_geometry(t) for t in outs)
        self._keep(lambda c: c.steps[number].results == results)
        self.steps.append(Step(key, results, shadows))
        for i, tensor in enumerate(outs):
            self._learn(tensor, ("out", number, i))
            if "empty" in func._schema.name and not is_continuous(tensor.dtype):
                tensor.zero_()  # what lies there by chance would tell equal blocks apart

    def finish(self) -> Block | None:
        """The block that this one repeats, if it does to the end."""
        self._keep(lambda c: len(c.steps) == len(self.steps))
        return self.candidates[0] if self.candidates else None

    def release(self) -> dict[Name, Tensor]:
        """Forgets the tensors of the block; returns those of its results that live on."""
        results = {id(t): t for t in self._alive if self._names[id(t)][0] == "out"}
        left = [(self._names[key], weakref.ref(t)) for key, t in results.items()]
        results.clear()
        self._alive.clear()
        self.waiting.clear()
        self._names.clear()
        return {name: tensor for name, ref in left if (tensor := ref()) is not None}

    def _name(self, tensor: Tensor, shadow: Callable[[Tensor], Shadow]) -> None:
        name = self._names.get(id(tensor))
        if name is None and (own := self.own.get(id(tensor))) is not None:
            name = self._learn(tensor, ("own", own))
            self._outside.add(storage_key(tensor))
        elif name is None:
            number = len(self.inputs)
            name = self._learn(tensor, ("in", number))
            self._outside.add(storage_key(tensor))
            entering = (_geometry(tensor), shadow(tensor))
            self.inputs.append(entering)
            self._keep(lambda c: number < len(c.inputs) and _enters_alike(c.inputs[number], entering))

    def _read(self, tensor: Tensor) -> None:
        """Whole numbers decide which elements meet, so they must be the same ones."""
        name = self._names[id(tensor)]
        if is_continuous(tensor.dtype):
            return
        self._reads.add(id(tensor))
        if name not in self.numbers:
            content = self.numbers[name] = tensor.detach().clone()
            self._keep(lambda c: name in c.numbers and torch.equal(c.numbers[name], content))

    def _keep(self, fits: Callable[[Block], bool]) -> None:
        if self.candidates:
            self.candidates = [c for c in self.candidates if fits(c)]

    def _learn(self, tensor: Tensor, name: Name) -> Name:
        self._names[id(tensor)] = name
        self._alive.append(tensor)
        return name

    def _part(self, value: object) -> object:
        if isinstance(value, Tensor):
            return self._names.get(id(value), id(value))
        if isinstance(value, (list, tuple)):
            return (list, *map(self._part, value))
        return (type(value), value)


class Repeats:
    """Told of the modules that begin and end and of their operations; knows the blocks that repeat others.

    Attributes:
        copies: block → the blocks that repeat it, by dotted name.
        misled: whether a parameter of such a block turned out to be used elsewhere, or a block twice: what was
            concluded does not hold, and the forward must be analysed without `Repeats`.
    """

    def __init__(self, model: nn.Module) -> None:
        self._signatures = dict(_signatures(model))
        self._own = {
            name: {id(p): n for n, p in model.get_submodule(name).named_parameters()} for name in self._signatures
        }
        self._owner = {key: name for name, own in self._own.items() for key in own}
        self._originals: dict[object, list[Block]] = {}
        self._seen: set[str] = set()
        self._strays: set[str] = set()
        self._private: dict[int, tuple[weakref.ref[Tensor], str]] = {}
        self.copies: dict[str, list[str]] = {}
        self.block: Block | None = None

    @property
    def misled(self) -> bool:
        concluded = {*self.copies, *(name for names in self.copies.values() for name in names)}
        return bool(concluded & self._strays)

    def enter(self, module: str) -> None:
        signature = self._signatures.get(module)
        if self.block is not None or signature is None:
            return
        if module in self._seen:
            self._strays.add(module)
            return
        self._seen.add(module)
        self.block = Block(module, self._own[module], list(self._originals.get(signature, ())))

    def note(self, operands: Sequence[Tensor]) -> None:
        """Writes down what is used though it belongs to another block than the running one."""
        running = self.block.module if self.block is not None else None
        for tensor in operands:
            owner = self._owner.get(id(tensor))
            if owner is not None and owner != running:
                self._strays.add(owner)
            left = self._private.get(id(tensor)) if self._private else None
            if left is not None and left[0]() is tensor:
                self._strays.add(left[1])

    def private(self, module: str, tensor: Tensor) -> None:
        """A tensor has left its block that speaks of the block's own parameters: nobody may use it."""
        self._private[id(tensor)] = (weakref.ref(tensor), module)

    def remember(self, block: Block) -> None:
        """The block was analysed: later ones may repeat it."""
        known = self._originals.setdefault(self._signatures[block.module], [])
        if block.sound and len(known) < MOST_ORIGINALS:
            known.append(block)

    def repeated(self, block: Block, original: Block) -> None:
        self.copies.setdefault(original.module, []).append(block.module)

    def own_parameters(self, module: str) -> set[str]:
        """Dotted names of a block's parameters."""
        return {f"{module}.{name}" for name in self._own[module].values()}


def _signatures(model: nn.Module) -> Iterator[tuple[str, object]]:
    """Modules with children that look like another one, and whose parameters are nobody else's."""
    uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    memory = Counter(p.data_ptr() or id(p) for p in model.parameters())
    found: dict[object, list[str]] = {}
    for name, module in model.named_modules():
        if not name or next(module.children(), None) is None:
            continue
        parameters = list(module.named_parameters(remove_duplicate=False))
        private = all(uses[id(p)] == 1 and memory[p.data_ptr() or id(p)] == 1 for _, p in parameters)
        if parameters and private and len(parameters) > 1:
            looks = (type(module), tuple((n, p.shape, p.dtype, p.device) for n, p in parameters))
            found.setdefault(looks, []).append(name)
    for signature, names in found.items():
        if len(names) > 1:
            yield from ((name, signature) for name in names)


def _geometry(tensor: Tensor) -> object:
    strided = tensor.layout is torch.strided
    return (tensor.shape, tensor.stride() if strided else tensor.layout, tensor.dtype)


def _enters_alike(a: tuple[object, Shadow], b: tuple[object, Shadow]) -> bool:
    return a[0] == b[0] and alike(a[1], b[1])

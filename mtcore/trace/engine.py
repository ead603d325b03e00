"""LabelPlanes: runs beside a forward and gives every tensor its shadow, by the rules of the operations."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mtcore.trace.arena import Arena, whole
from mtcore.trace.planes import NOTHING, Shadow
from mtcore.trace.relations import RelationStore
from mtcore.trace.repeats import Block, Repeats, Waiting
from mtcore.trace.rules.context import Call, RuleContext
from mtcore.trace.rules.registry import OpRules
from mtcore.trace.storage import StoragePlanes, dense
from mtcore.trace.structure import tensors_in
from mtcore.trace.values import ValueNumbers, flat_tensors, operands_of, storage_key, written_arguments
from mtcore.trace.weightless import run_weightless

SWEEP = 512
"""Entries between two sweeps of dead tensors, whose planes would otherwise stay."""


@dataclass
class Trouble:
    """What the rules could not handle, counted by operation; operands were pinned and frozen there."""

    unknown: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)


class LabelPlanes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """One forward's shadows and the relations that its operations demand.

    Args:
        rules: the rule of every operation.
        module_name: the dotted name of the module that is running, for `explain`.
        reuse: whether blocks that repeat others are recognised instead of analysed, see `repeats`.
        force: whether rules may answer in an operation's place; `has_forced` tells whether one did.
    """

    def __init__(
        self,
        model: nn.Module,
        rules: OpRules,
        module_name: Callable[[], str],
        *,
        reuse: bool = True,
        force: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        parameters = _parameters(model)
        self.arena = Arena([name for name, _ in parameters], [tuple(p.shape) for _, p in parameters])
        self.relations = RelationStore()
        self.values = ValueNumbers()
        self.trouble = Trouble()
        self._rules, self._module_name = rules, module_name
        self.offsets: dict[int, set[float]] = {}
        self.broken = False
        self._force, self.has_forced = force, False
        self._weightless = any(p.device.type == "meta" for _, p in parameters)
        self._all_on_cpu = all(p.device.type == "cpu" for _, p in parameters)
        self.repeats = Repeats(model) if reuse else None
        self._sweep_at = SWEEP
        self._storages = StoragePlanes(self._context("write").resolved)
        self._known: dict[int, tuple[weakref.ref[Tensor], Shadow, int, int]] = {}
        for i, (_, parameter) in enumerate(parameters):
            shadow = Shadow(view=whole(i, tuple(parameter.shape)))
            self._storages.birth(parameter, shadow)
            self._know(parameter, shadow)

    @property
    def copies(self) -> Mapping[str, Sequence[str]]:
        """Block → the blocks that repeat it; their parameters have no nodes of their own."""
        return {} if self.repeats is None else self.repeats.copies

    def shadow(self, tensor: Tensor) -> Shadow:
        """The shadow of a tensor now, after all writes to its storage."""
        found = self._known.get(id(tensor))
        key = storage_key(tensor)
        if found is not None and found[0]() is tensor and found[2:] == (key, self._storages.writes(key)):
            return found[1]
        shadow = self._storages.read(tensor)
        self._know(tensor, shadow)
        return shadow

    def pin_results(self, result: object) -> None:
        """What the model returns must keep its values and its size."""
        context = self._context("output")
        results = tensors_in(result)
        if self.repeats is not None:
            self.repeats.note(results)
        for tensor in results:
            context.opaque(context.resolved(self.shadow(tensor)))

    def give_up_everything(self) -> None:
        """The forward did not finish: what would have come is unknown, so every parameter seen is opaque."""
        context = self._context("a forward that failed")
        for role in self.arena.roles:
            nodes = torch.arange(role.base, role.base + role.size)
            context.opaque(Shadow((nodes,), (nodes,)))

    def enter(self, module: str) -> None:
        """A module begins."""
        if self.repeats is not None:
            self.repeats.enter(module)

    def leave(self, module: str) -> None:
        """A module ends: a block that repeats no other one may be repeated itself."""
        if self.repeats is None or self.repeats.block is None or self.repeats.block.module != module:
            return
        block, self.repeats.block = self.repeats.block, None
        try:
            self._end(block, self.repeats)
        except Exception as error:  # noqa: BLE001  a fault of ours must not become the model's
            self._break("the end of a block", error)

    def _end(self, block: Block, repeats: Repeats) -> None:
        """If a block repeats another one, what is left of it gets the labels of that one's results."""
        original = block.finish()
        if original is None:
            self._catch_up(block)
            self._remember(block, repeats)
            return
        for name, tensor in block.release().items():
            shadow = original.results.get(name)
            if shadow is None or not dense(tensor):
                repeats.private(block.module, tensor)
            else:
                self._storages.birth(tensor, shadow)
                self._know(tensor, shadow)
        repeats.repeated(block, original)

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        written = written_arguments(func, args, kwargs)
        origin = self.values.before(func, args, kwargs, bool(written))
        key: object = None
        try:
            near = args, kwargs
            if not self._all_on_cpu:
                near = _on_cpu(args), _on_cpu(kwargs)
            call = Call(func, near[0], near[1], module=self._module_name())
            operands = operands_of(args, kwargs)
            key = self._announce(call, operands, written)
            forced = self._rules.forced(call) if self._force else None
        except Exception as error:  # noqa: BLE001  a fault of ours must not become the model's
            self._break(func, error)
            call, forced = None, None
        if forced is not None:
            out, self.has_forced = forced, True
        else:
            out = run_weightless(func, args, kwargs) if self._weightless else func(*args, **kwargs)
        outs = flat_tensors(out)
        self.values.after(origin, outs, written)
        if call is not None:
            try:
                self._take(key, Waiting(call, operands, written, outs))
            except Exception as error:  # noqa: BLE001  as above
                self._break(func, error)
        return out

    def _announce(self, call: Call, operands: Sequence[Tensor], written: Sequence[Tensor]) -> object:
        """Before an operation runs: the shadows of its operands, unless its block repeats another one so far."""
        key: object = None
        block = self.repeats.block if self.repeats is not None else None
        if self.repeats is not None:
            self.repeats.note(operands)
        if block is not None:
            key = block.before(call, operands, written, self.shadow)
            if not block.following:
                self._catch_up(block)
        if block is None or not block.following:
            call.shadows = {id(t): self.shadow(t) for t in operands}
        elif self._rules.answers(call.name):
            known = block.candidates[0].steps[len(block.steps)].shadows
            call.shadows = {id(t): shadow for t, shadow in zip(operands, known, strict=True)}
        return key

    def _take(self, key: object, done: Waiting) -> None:
        """After an operation ran: its rule, now or when it is known that its block repeats no other one."""
        block = self.repeats.block if self.repeats is not None else None
        if block is not None:
            wanted = self._rules.answers(done.call.name)
            shadows = tuple(done.call.shadows[id(t)] for t in done.operands) if wanted else ()
            followed = block.following
            block.after(done.call.func, key, done.outs, shadows)
            if followed:
                block.waiting.append(done)
                if not block.following:
                    self._catch_up(block)
                return
        self._learn(done)

    def _catch_up(self, block: Block) -> None:
        """The block repeats no other one: the operations that waited get their rules."""
        for done in block.waiting:
            done.call.shadows = {id(t): self.shadow(t) for t in done.operands}
            self._learn(done)
        block.waiting.clear()

    def _remember(self, block: Block, repeats: Repeats) -> None:
        """Keeps what a later block that repeats this one needs."""
        own = repeats.own_parameters(block.module)
        for name, tensor in block.release().items():
            shadow = self.shadow(tensor)
            if dense(tensor) and not self.arena.names_any(own, shadow):
                block.results[name] = shadow
            else:
                repeats.private(block.module, tensor)
        repeats.remember(block)

    def _learn(self, done: Waiting) -> None:
        call, written, outs = done.call, done.written, done.outs
        for tensor, shadow in zip(written or outs, self._results(call, written or outs), strict=True):
            if written:
                self._storages.write(tensor, shadow)
            else:
                self._storages.birth(tensor, shadow)
            self._know(tensor, shadow)

    def _break(self, func: Any, error: Exception) -> None:
        """The shadows can no longer be trusted: `broken` makes the caller claim nothing."""
        self.broken = True
        key = f"{func}: {type(error).__name__}: {error}"
        self.trouble.errors[key] = self.trouble.errors.get(key, 0) + 1

    def _results(self, call: Call, outs: Sequence[Tensor]) -> Sequence[Shadow]:
        call.outs = outs
        self.relations.read(operands_of(call.args, call.kwargs))
        rule = self._rules.find(call.name)
        context = self._context(call.name, call)
        if rule is None:
            if not call.labelled:
                return [NOTHING] * len(outs)
            self.trouble.unknown[call.name] = self.trouble.unknown.get(call.name, 0) + 1
            return self._give_up(call, context, outs)
        if not call.labelled and not rule.makes_labels:
            return [NOTHING] * len(outs)
        try:
            made = rule.run(context, call)
        except Exception as error:  # noqa: BLE001  a rule that errs must cost groups, never the run; it is counted
            key = f"{call.name}: {type(error).__name__}: {error}"
            self.trouble.errors[key] = self.trouble.errors.get(key, 0) + 1
            return self._give_up(call, context, outs)
        shadows = [made] if isinstance(made, Shadow) else list(made)
        return (shadows + [NOTHING] * (len(outs) - len(shadows)))[: len(outs)]

    def _give_up(self, call: Call, context: RuleContext, outs: Sequence[Tensor]) -> list[Shadow]:
        for shadow in call.shadows.values():
            context.opaque(context.resolved(shadow))
        return [NOTHING] * len(outs)

    def _context(self, op: str, call: Call | None = None) -> RuleContext:
        site = self.relations.site(call.module if call is not None else self._module_name(), op)
        return RuleContext(self.arena, self.relations, site, self.offsets, call)

    def _know(self, tensor: Tensor, shadow: Shadow) -> None:
        key = storage_key(tensor)
        self._known[id(tensor)] = (weakref.ref(tensor), shadow, key, self._storages.writes(key))
        if len(self._known) > self._sweep_at:
            self._known = {k: entry for k, entry in self._known.items() if entry[0]() is not None}
            self._sweep_at = 2 * len(self._known) + SWEEP


def _on_cpu(value: Any) -> Any:
    """Index tensors where the planes are; other arguments as they are."""
    if isinstance(value, Tensor):
        moves = value.device.type != "cpu" and not (value.is_floating_point() or value.is_complex())
        return value.cpu() if moves and value.device.type != "meta" else value
    if isinstance(value, (tuple, list)):
        return type(value)(_on_cpu(item) for item in value)
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    return value


def _parameters(model: nn.Module) -> list[tuple[str, Tensor]]:
    """The parameters by name, without those that are another parameter's memory."""
    seen: set[tuple[int, torch.Size]] = set()
    out: list[tuple[str, Tensor]] = []
    for name, parameter in model.named_parameters():
        key = (parameter.data_ptr() or id(parameter), parameter.shape)
        if key not in seen:
            seen.add(key)
            out.append((name, parameter))
    return out

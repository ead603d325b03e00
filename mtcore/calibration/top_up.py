"""Topping up: starved experts get more samples, or all of the calibration tokens, before anything is decided."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mtcore.calibration.experts import (
    NOT_COUNTED,
    ExpertGroup,
    StarvedExpert,
    expert_needs,
    listed_groups,
    stacked_group,
)
from mtcore.calibration.loop import ForwardLoop, as_forward_loop, calibration_mode, forward_batch
from mtcore.calibration.quantizers import disabled
from mtcore.calibration.ranks import current_ranks
from mtcore.errors import CalibrationError
from mtcore.nn import ExpertsQuantModule, TensorQuantizer
from mtcore.nn.expert_rows import not_counted
from mtcore.plan import Plan
from mtcore.trace.dealing import ChoicesDealt, ChoicesSeen

LOG = logging.getLogger(__name__)

Starved = tuple[StarvedExpert, ...]


@contextmanager
def topped_up(
    model: nn.Module, plan: Plan, loop: ForwardLoop, more: Iterable[Any] | None = None
) -> Iterator[tuple[ForwardLoop, Starved]]:
    """Count the tokens of all experts in one run of the data, and top up those that are starved, as the plan says.

    Args:
        model: converted by the plan.
        more: further batches of the same source; read as far as they are needed.

    Yields:
        The data to run meanwhile, and the experts that were starved with what was done about them.

    Raises:
        CalibrationError: nothing tells where more data are; or no router's choice is found.
    """
    how = plan.experts.when_starved
    if how == "report":
        yield loop, ()
        return
    if how == "more_samples" and more is None:
        raise CalibrationError(
            "experts.when_starved is more_samples, but nothing tells where more data are: give a source with "
            "--calib, or choose all_experts"
        )
    groups = count_tokens(model, plan, loop, around=how == "all_experts")
    counted = {group.owner for group in groups}
    unknown = [name for name, _ in expert_needs(model, [m.name for m in plan.quantized]) if name not in counted]
    if unknown:
        raise CalibrationError(
            f"experts.when_starved is {how}, but {NOT_COUNTED.format(', '.join(unknown[:3]))}; choose report"
        )
    starved = [expert for group in groups for expert in group.starved(plan.experts).values()]
    if not starved:
        LOG.info("no expert is starved, of %d groups of experts", len(groups))
        yield loop, ()
    elif how == "more_samples":
        assert more is not None
        yield _with_more(model, plan, loop, groups, more)
    else:
        told = tuple(replace(expert, remedy="it was given all tokens of the data") for expert in starved)
        with ExitStack() as stack:
            for group in groups:
                short = list(group.starved(plan.experts))
                if short:
                    stack.enter_context(_given_all_tokens(model, group, short))
            yield loop, told


def count_tokens(model: nn.Module, plan: Plan, loop: ForwardLoop, *, around: bool = False) -> list[ExpertGroup]:
    """The tokens of every quantized expert in one run of the data, in which nothing is rounded; of all ranks.

    Args:
        around: whether to look for the modules that choose among the experts.
    """
    rows: dict[str, Tensor] = {}
    tokens: dict[str, int] = {}
    handles = []
    choices = _Choices(model)
    try:
        for name in (planned.name for planned in plan.quantized):
            module = model.get_submodule(name)
            if isinstance(module, ExpertsQuantModule):
                handles.append(module.expert_rows.register_forward_hook(_add_rows(rows, name)))
            elif isinstance(module, nn.Linear):
                tokens[name] = 0
                handles.append(module.register_forward_pre_hook(_add_tokens(tokens, name)))
        quantizers = [module for module in model.modules() if isinstance(module, TensorQuantizer)]
        with choices.watched() if around else nullcontext(), disabled(quantizers), calibration_mode(model):
            loop(model)
    finally:
        for handle in handles:
            handle.remove()
    groups = [*listed_groups(model, tokens), *(stacked_group(name, counts) for name, counts in rows.items())]
    return [replace(group, around=choices.around(group)) for group in _of_all_ranks(groups)]


def _add_rows(counts: dict[str, Tensor], name: str) -> Callable[[nn.Module, object, Tensor], None]:
    def add(_: nn.Module, __: object, rows: Tensor) -> None:
        counts[name] = counts[name] + rows[0] if name in counts else rows[0]

    return add


def _add_tokens(seen: dict[str, int], name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def add(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen[name] += args[0].numel() // max(1, args[0].shape[-1])

    return add


def _of_all_ranks(groups: list[ExpertGroup]) -> list[ExpertGroup]:
    ranks = current_ranks()
    if ranks is None:
        return groups
    merged: dict[str, ExpertGroup] = {}
    for of_rank in ranks.every(groups):
        for group in of_rank:
            merged[group.owner] = merged[group.owner].joined(group) if group.owner in merged else group
    return list(merged.values())


class _Choices:
    """Which modules choose among how many alternatives, directly or in a module inside."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._running: list[str] = []
        self._found: set[tuple[str, int]] = set()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While the model runs."""
        handles = []
        try:
            for name, module in self._model.named_modules():
                handles.append(module.register_forward_pre_hook(lambda *_, name=name: self._running.append(name)))
                handles.append(module.register_forward_hook(lambda *_: self._leave(), always_call=True))
            with ChoicesSeen(lambda count: self._found.update((name, count) for name in self._running)):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _leave(self) -> None:
        self._running.pop()

    def around(self, group: ExpertGroup) -> str | None:
        """The innermost module around the experts that chooses among as many."""
        name = group.owner
        while name:
            name = name.rpartition(".")[0]
            if (name, group.size) in self._found:
                return name
        return None


def _with_more(
    model: nn.Module, plan: Plan, loop: ForwardLoop, groups: Sequence[ExpertGroup], more: Iterable[Any]
) -> tuple[ForwardLoop, Starved]:
    """Read further batches, and keep those that reach an expert which is starved still."""
    starved = {(g.owner, n): expert for g in groups for n, expert in g.starved(plan.experts).items()}
    known = {group.owner: group for group in groups}
    kept: list[Any] = []
    tried = 0
    for batch in more:
        short = [(g.owner, n) for g in known.values() for n in g.starved(plan.experts)]
        if not short:
            break
        tried += 1
        found = {group.owner: group for group in count_tokens(model, plan, as_forward_loop([batch]))}
        if any(owner in found and found[owner].tokens.get(number) for owner, number in short):
            kept.append(batch)
            known = {name: g.joined(found[name]) if name in found else g for name, g in known.items()}
    LOG.info("experts: took %d of %d further batches", len(kept), tried)
    left = {(g.owner, n) for g in known.values() for n in g.starved(plan.experts)}

    def longer(model: nn.Module) -> None:
        loop(model)
        for batch in kept:
            forward_batch(model, batch)

    told = []
    for (owner, number), expert in starved.items():
        end = ", and no more were to be had (at most seven times the samples)" if (owner, number) in left else ""
        remedy = f"{known[owner].tokens[number]} tokens with {len(kept)} more batches{end}"
        told.append(replace(expert, remedy=remedy))
    return longer, tuple(told)


@contextmanager
def _given_all_tokens(model: nn.Module, group: ExpertGroup, short: Sequence[int]) -> Iterator[None]:
    """Before each forward of the module around a group, it runs with its choices on the starved experts.

    Raises:
        CalibrationError: no module around chooses among them.
    """
    if group.around is None:
        raise CalibrationError(
            f"{group.owner}: nothing around it was seen to choose among {group.size} experts, so that tokens "
            "cannot be sent to all of them; choose experts.when_starved: more_samples"
        )
    order = [*short, *(number for number in range(group.size) if number not in short)]
    running = False

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal running
        if running:
            return
        running = True
        try:
            done = 0
            while done < len(short):
                dealt = ChoicesDealt(group.size, order[done:] + order[:done])
                with torch.no_grad(), not_counted(), dealt:
                    module(*args, **kwargs)
                done += max(1, dealt.most)
        finally:
            running = False

    handle = model.get_submodule(group.around).register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()

"""Gather: one run of the data, unquantized, in which all wanted statistics are collected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import MethodType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtcore.calibration.loop import ForwardLoop, calibration_mode
from mtcore.calibration.quantizers import disabled, is_of_expert
from mtcore.calibration.ranks import current_ranks
from mtcore.calibration.statistics.across import across_ranks
from mtcore.calibration.statistics.collector import Collector, add_up, join
from mtcore.calibration.statistics.needs import Needs, Site, Wanted
from mtcore.calibration.statistics.record import TensorStatistics
from mtcore.errors import CalibrationError
from mtcore.nn import ChannelScale, ExpertsQuantModule, QuantModule, TensorQuantizer
from mtcore.nn.quant_experts import ExpertObserver
from mtcore.nn.quant_linear import QuantLinear
from mtcore.nn.views import TokenView
from mtcore.nn.walk import modules_by_name
from mtcore.trace import SharedInputGroup

Known = Mapping[Site, TensorStatistics]

_JOINED_AFTER = 16
"""Batches after which the magnitudes of all values are joined: seldom, yet before they take much memory."""


class Gathering:
    """Statistics that grow while a model runs.

    Several sites that read one value, as the trace saw, share one collector. Nothing waits for the device, but for
    a look at the magnitudes after the 1st, 8th, 64th, … batch, so that bad data stop early.
    """

    def __init__(
        self,
        model: nn.Module,
        wanted: Wanted,
        shared: Iterable[SharedInputGroup] = (),
        known: Known | None = None,
        root: nn.Module | None = None,
    ) -> None:
        """
        Args:
            model: its modules may be quantized ones or plain ones; a plain one has the slot "input" alone.
            wanted: what to gather where.
            shared: groups of modules that read one value.
            known: of the batches before, to go on from; set `batches` to their number.
            root: what runs once a batch; the model where None.

        Set `marking` where `marked` will be asked.
        """
        self.model, self._root = model, model if root is None else root
        self._leaders = _leaders(model, wanted, shared)
        needs: dict[Site, Needs] = {}
        for site, need in wanted.items():
            leader = self._leaders[site]
            needs[leader] = needs[leader] | need if leader in needs else need
        self._collectors = {site: Collector(need, (known or {}).get(site)) for site, need in needs.items()}
        self.batches = 0
        self.marking = False
        self._order: dict[Site, None] = {}
        self._last: Site | None = None
        self._sound = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """The model shows its values meanwhile; nothing is rounded. Put back in any case."""
        modules = modules_by_name(self.model)
        quantizers = [module for module in modules.values() if isinstance(module, TensorQuantizer)]
        observed: list[TensorQuantizer] = []
        stacks: list[ExpertsQuantModule] = []
        self._mark()
        watched: dict[nn.Module, list[Site]] = {}
        for site in self._collectors:
            watched.setdefault(modules[site[0]], []).append(site)
        plain = {
            module: watched.get(module, [])
            for module in dict.fromkeys(modules.values())
            if isinstance(module, QuantLinear)
            and _runs_plainly(module)
            and all(slot == "input" for _, slot in watched.get(module, ()))
        }
        handles = [self._root.register_forward_hook(self._after_batch)]
        try:
            for site in self._collectors:
                module = modules[site[0]]
                if module in plain:
                    continue
                if isinstance(module, ExpertsQuantModule) and is_of_expert(site):
                    module.observer = self._see_experts(site[0])
                    stacks.append(module)
                    continue
                target = _target(modules[site[0]], site)
                if isinstance(target.module, TensorQuantizer):
                    target.module.observer = _Observer(self, site)
                    observed.append(target.module)
                elif target.of_output:
                    handles.append(target.module.register_forward_hook(self._see_output(site)))
                else:
                    handles.append(target.module.register_forward_pre_hook(self._see_input(site)))
            for module, sites in plain.items():
                vars(module)["forward"] = self._plain_forward(module, sites)
            with disabled(quantizers), calibration_mode(self.model):
                yield
        except Exception as error:
            last = f", after {'.'.join(self._last)}" if self._last is not None else ""
            error.add_note(f"calibration stopped in batch {self.batches + 1}{last}")
            raise
        finally:
            for handle in handles:
                handle.remove()
            for quantizer in observed:
                quantizer.observer = None
            for stack in stacks:
                stack.observer = None
            for module in plain:
                vars(module).pop("forward", None)

    def see(self, site: Site, x: Tensor) -> None:
        """Take in a value, [..., cols]."""
        self._order.setdefault(site)
        self._last = site
        self._collectors[site].update(x)

    def results(self) -> dict[Site, TensorStatistics]:
        """What was gathered, for every site that data reached.

        Raises:
            CalibrationError: a value is not finite; by the first such site in the order of the forward.
        """
        self._check_finite()
        return self._of_all({leader: collector.result() for leader, collector in self._collectors.items()})

    def marked(self) -> dict[Site, TensorStatistics] | None:
        """What whole batches told, after an exception inside a batch; None if that is nothing sound."""
        if any(collector.needs.gram for collector in self._collectors.values()):
            return None
        return self._sound_ones({leader: collector.marked() for leader, collector in self._collectors.items()})

    def so_far(self) -> dict[Site, TensorStatistics] | None:
        """What all batches told until now, between two of them; None if that is nothing sound."""
        return self._sound_ones({leader: collector.result() for leader, collector in self._collectors.items()})

    def nbytes(self) -> int:
        """About the bytes of what was gathered."""
        return sum(collector.nbytes for collector in self._collectors.values())

    def _sound_ones(self, gathered: Mapping[Site, TensorStatistics | None]) -> dict[Site, TensorStatistics] | None:
        sound = all(statistics is None or _finite(statistics.amax) for statistics in gathered.values())
        return self._of_all(gathered) if self.batches and sound else None

    def _of_all(self, gathered: Mapping[Site, TensorStatistics | None]) -> dict[Site, TensorStatistics]:
        found = {site: gathered[leader] for site, leader in self._leaders.items()}
        return {site: statistics for site, statistics in found.items() if statistics is not None}

    def _mark(self) -> None:
        if self.marking:
            for collector in self._collectors.values():
                collector.mark()

    def _plain_forward(self, module: QuantLinear, sites: Sequence[Site]) -> Callable[..., Tensor]:
        """That of nn.Linear, which shows its input where sites are given: cheaper than a hook."""
        if not sites:
            return MethodType(nn.Linear.forward, module)
        linear, see = F.linear, self.see

        def forward(input: Tensor) -> Tensor:
            x = input.detach() if input.requires_grad else input
            for site in sites:
                see(site, x)
            return linear(input, module.weight, module.bias)

        return forward

    def _see_output(self, site: Site) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _, __, output: self.see(site, output.detach())

    def _see_experts(self, name: str) -> ExpertObserver:
        """Shows the factors of the experts that are asked for."""

        def see(parameter: str, expert: int, x: Tensor) -> None:
            site = name, f"{parameter}.{expert}"
            if site in self._collectors:
                self.see(site, x.detach())

        return see

    def _see_input(self, site: Site) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, args: self.see(site, args[0].detach())

    def _after_batch(self, *_: object) -> None:
        self.batches += 1
        self._last = None
        add_up(self._collectors.values())
        self._mark()
        if self.batches % _JOINED_AFTER == 0:
            join(self._collectors.values())
        if self.batches.bit_count() == 1 and self.batches.bit_length() % 3 == 1:  # 1, 8, 64, …
            self._check_finite()

    def _check_finite(self) -> None:
        join(self._collectors.values())
        ordered = [*self._order, *(site for site in self._collectors if site not in self._order)]
        finite = all_at_once(largest_of([self._collectors[site].amax for site in ordered]), torch.isfinite)
        bad = [site for site, sound in zip(ordered, finite, strict=True) if sound is False]
        if bad:
            tensors = sum(leader in bad for leader in self._leaders.values())
            raise CalibrationError(
                f"calibration saw NaN or infinite values, first in {'.'.join(bad[0])} ({tensors} tensors in all, "
                f"batches {self._sound + 1} to {max(self.batches, 1)}): check the data and the model's dtype"
            )
        self._sound = self.batches


class _Observer:
    """A site of a gathering, as a quantizer feeds it."""

    def __init__(self, gathering: Gathering, site: Site) -> None:
        self._gathering, self._site = gathering, site

    def update(self, matrix: Tensor) -> None:
        self._gathering.see(self._site, matrix)


@dataclass(frozen=True)
class _Target:
    """The module at which a site is seen, and whether its output (or its first argument) is the value."""

    module: nn.Module
    of_output: bool


def _target(module: nn.Module, site: Site) -> _Target:
    if isinstance(module, QuantModule):
        return _Target(module.get_submodule(module.slots.get(site[1], site[1])), True)
    if site[1] != "input":
        raise CalibrationError(f"{'.'.join(site)}: a plain {type(module).__name__} shows nothing but its input")
    return _Target(module, False)


def _leaders(model: nn.Module, wanted: Wanted, shared: Iterable[SharedInputGroup]) -> dict[Site, Site]:
    """For every site the one whose collector it uses: the first that reads the same value in the same way."""
    leaders = {site: site for site in wanted}
    for group in shared:
        same = [
            (name, "input")
            for name in group.modules
            if (name, "input") in wanted
            and _reads_plainly(_target(model.get_submodule(name), (name, "input")).module)
        ]
        for site in same:
            leaders[site] = same[0]
    return leaders


def _reads_plainly(module: nn.Module) -> bool:
    """Whether the value is seen as it is: tokens by features, not scaled, rotated or shifted."""
    if isinstance(module, TensorQuantizer):
        return module.view == TokenView() and _changes_nothing(module)
    return not isinstance(module, ChannelScale) or module.idle


def _runs_plainly(module: nn.Module) -> bool:
    """Whether this is a quantized linear layer that computes, while nothing is rounded, what nn.Linear does.

    It is run as one then: on a GPU, asking three idle quantizers costs as much time as the product.
    """
    if type(module) is not QuantLinear or "forward" in vars(module):
        return False
    slots = [module._modules[attribute] for attribute in module.slots.values()]
    return all(isinstance(slot, nn.Identity) or _changes_nothing(slot) for slot in slots)


def _changes_nothing(module: nn.Module | None) -> bool:
    """Whether what sits in a slot neither scales, rotates nor shifts the value."""
    if isinstance(module, ChannelScale):
        return module.idle
    if not isinstance(module, TensorQuantizer):
        return False
    return module.pre_quant_scale is None and module.rotation is None and module.bias is None


def gather(
    model: nn.Module,
    forward_loop: ForwardLoop,
    wanted: Wanted,
    shared: Iterable[SharedInputGroup] = (),
    root: nn.Module | None = None,
) -> dict[Site, TensorStatistics]:
    """Run the data once; arguments, result and errors as in `Gathering`. What the data raises goes through.

    Inside `data_parallel`, the result is that of the data of all ranks.
    """
    gathering = Gathering(model, wanted, shared, root=root)
    ranks = current_ranks()
    with nullcontext() if ranks is None else ranks.together():
        with gathering.running():
            forward_loop(model)
        found = gathering.results()
    return found if ranks is None else across_ranks(found, wanted, ranks)


def all_at_once(
    values: Sequence[Tensor | None], test: Callable[[Tensor], Tensor] = torch.Tensor.bool
) -> list[bool | None]:
    """Whether values of shape [] pass a test of single elements, on the host, waiting once for each device."""
    known = {index: value for index, value in enumerate(values) if value is not None}
    found: list[bool | None] = [None] * len(values)
    for device in {value.device for value in known.values()}:
        places = [index for index, value in known.items() if value.device == device]
        passed = test(torch.stack([known[index] for index in places])).tolist()
        for index, good in zip(places, passed, strict=True):
            found[index] = good
    return found


def largest_of(values: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The largest element of each vector, []: two launches for all of one length on one device."""
    alike: dict[tuple[torch.Size, torch.device], list[int]] = {}
    for index, value in enumerate(values):
        if value is not None:
            alike.setdefault((value.shape, value.device), []).append(index)
    found: list[Tensor | None] = [None] * len(values)
    for places in alike.values():
        together = torch.stack([value for index in places if (value := values[index]) is not None])
        for index, largest in zip(places, together.amax(1).unbind(), strict=True):
            found[index] = largest
    return found


def _finite(amax: Tensor | None) -> bool:
    return amax is None or bool(amax.amax().isfinite())

"""Experts: children of a list or matrices of a stack that data reach unevenly, and those that they hardly reach."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from mtcore.calibration.quantizers import is_of_expert, stack_of
from mtcore.calibration.statistics import Needs, Site, Statistics, TensorStatistics
from mtcore.nn import ExpertsQuantModule
from mtcore.nn.quant_experts import EXPERT_ROWS
from mtcore.nn.walk import modules_by_name
from mtcore.recipe.setting import ExpertsSetting

SHARE = 0.1
"""An expert is starved where it saw less than this share of what its siblings saw on average."""

NOT_COUNTED = (
    "the tokens of the experts in {} were not counted: no data reached them, or not in products of matrices"
)

SHARED_SCALE = "its input has the scale of its siblings"


@dataclass(frozen=True)
class StarvedExpert:
    """An expert that data hardly reached.

    Attributes:
        name: of the module; of a matrix in a stack, the stack's module and the number: "mlp.experts[3]".
        tokens: that it saw of the data.
        average: that it and its siblings saw.
        remedy: what was done about it.
    """

    name: str
    tokens: int
    average: float
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f": {self.remedy}" if self.remedy else ""
        return f"starved expert: {self.name} saw {self.tokens} tokens, its siblings {self.average:,.0f}{remedy}"


def starved_lines(starved: Sequence[StarvedExpert], most: int = 10) -> Iterator[str]:
    """One line an expert, for people; of many the first, and how many more."""
    yield from map(str, starved[:most])
    if len(starved) > most:
        yield f"and {len(starved) - most} more starved experts"


@dataclass(frozen=True)
class ExpertGroup:
    """Experts side by side, and the tokens that each was given.

    Attributes:
        owner: the module list, or the module that holds the stack.
        size: how many there are.
        tokens: by number; of those that are quantized.
        stacked: whether they are the matrices of a stack.
        around: the innermost module around them that makes a choice among as many alternatives, where that was
            looked for and found.
    """

    owner: str
    size: int
    tokens: Mapping[int, int]
    stacked: bool = False
    around: str | None = None

    def name(self, number: int) -> str:
        return f"{self.owner}[{number}]" if self.stacked else f"{self.owner}.{number}"

    def starved(self, setting: ExpertsSetting) -> dict[int, StarvedExpert]:
        """Those that saw less than a tenth of the average, or fewer tokens than asked for, by number.

        Children of a module list that all saw the same are the blocks of a decoder, and none of them is starved.
        """
        average = sum(self.tokens.values()) / len(self.tokens)
        if not self.stacked and len(set(self.tokens.values())) == 1:
            return {}
        return {
            number: StarvedExpert(self.name(number), tokens, average)
            for number, tokens in self.tokens.items()
            if tokens < max(SHARE * average, setting.min_tokens)
        }

    def joined(self, other: ExpertGroup) -> ExpertGroup:
        """With the tokens of other data."""
        return replace(self, tokens={n: t + other.tokens.get(n, 0) for n, t in self.tokens.items()})


def expert_needs(model: nn.Module, modules: Iterable[str]) -> dict[Site, Needs]:
    """What is asked of stacked experts to count their tokens; lists of modules are counted with their inputs."""
    known = modules_by_name(model)
    stacks = (name for name in modules if isinstance(known[name], ExpertsQuantModule))
    return {(name, EXPERT_ROWS): Needs(moments=True) for name in stacks}


def expert_groups(model: nn.Module, layers: Iterable[str], statistics: Statistics) -> list[ExpertGroup]:
    """The experts that the named layers are in, and stacked ones, with what they saw."""
    found = [stacked_group(name, statistics[name, slot].total) for name, slot in statistics if slot == EXPERT_ROWS]
    tokens = {n: statistics[n, "input"].tokens if (n, "input") in statistics else 0 for n in layers}
    return [*listed_groups(model, tokens), *found]


def listed_groups(model: nn.Module, tokens: Mapping[str, int]) -> Iterator[ExpertGroup]:
    """Children of module lists, from the tokens of the layers in them; a child saw what its layers saw at most."""
    lists = module_lists(model)
    found: dict[str, dict[int, int]] = {}
    for name, seen in tokens.items():
        place = place_in_list(lists, name)
        if place is not None:
            known = found.setdefault(place[0], {})
            known[place[1]] = max(seen, known.get(place[1], 0))
    for owner, of_child in found.items():
        yield ExpertGroup(owner, len(lists[owner]), dict(sorted(of_child.items())))


def stacked_group(name: str, rows: torch.Tensor | None) -> ExpertGroup:
    """The experts of a stack, from their rows, [experts]."""
    assert rows is not None, "experts were not counted"
    counts = rows.long().tolist()
    return ExpertGroup(name, len(counts), dict(enumerate(counts)), stacked=True)


def starved_experts(
    model: nn.Module, layers: Iterable[str], statistics: Statistics, setting: ExpertsSetting | None = None
) -> tuple[StarvedExpert, ...]:
    """Experts that saw far fewer tokens than their siblings, or than were asked for; what is done about none."""
    return tuple(
        expert if expert.tokens else replace(expert, remedy=SHARED_SCALE)
        for group in expert_groups(model, layers, statistics)
        for expert in group.starved(setting or ExpertsSetting()).values()
    )


def from_siblings(model: nn.Module, site: Site, known: Mapping[Site, TensorStatistics]) -> TensorStatistics | None:
    """What stands for the statistics of an expert, of a module list or a stack, that no token reached.

    Those of the sibling that saw most, with the largest magnitudes of all siblings; None where there are none.
    """
    lists = module_lists(model)
    family = _family(lists, site)
    found = [known[other] for other in known if family is not None and _family(lists, other) == family]
    if not found:
        return None
    most = max(found, key=lambda statistics: statistics.tokens)
    same = [statistics.amax for statistics in found if statistics.amax.shape == most.amax.shape]
    return replace(most, tokens=0, amax=torch.stack(same).amax(0))


def _family(lists: Container[str], site: Site) -> tuple[str, ...] | None:
    """What a value has in common with those of the experts beside its own; None where it is of no expert."""
    if is_of_expert(site):
        return stack_of(site)
    place = place_in_list(lists, site[0])
    return None if place is None else (place[0], place[2], site[1])


def module_lists(model: nn.Module) -> dict[str, nn.ModuleList]:
    """The lists of modules in a model, by name."""
    return {name: module for name, module in modules_by_name(model).items() if isinstance(module, nn.ModuleList)}


def place_in_list(lists: Container[str], name: str) -> tuple[str, int, str] | None:
    """The innermost module list around a layer, the number of its child, and the layer's name in that."""
    around, inside = name, ""
    while around:
        around, _, part = around.rpartition(".")
        if around in lists:
            return around, int(part), inside
        inside = f"{part}.{inside}" if inside else part
    return None

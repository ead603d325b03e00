"""The multiple-choice knapsack, exactly: one option of every class, least total loss within a total cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

Option = tuple[int, float]
"""Cost, a whole number, and loss."""


def choose(classes: Sequence[Sequence[Option]], budget: int) -> tuple[int, ...] | None:
    """For every class the number of the option that is taken; None where no choice is within the budget.

    The total of the losses is the least possible, up to the rounding of fp64 sums. Of options of a class that cost
    and lose the same, the first is taken.

    Dynamic programming over the classes, those with most at stake first. Of the partial choices only those go on
    that no other one beats in both totals (Kellerer, Pferschy, Pisinger, "Knapsack Problems", 2004, 11.5), and that
    can still beat the best whole choice known, by the bound of the relaxed problem for the classes to come.

    Example:
        >>> choose([[(16, 0.0), (4, 3.0)], [(16, 0.0), (4, 1.0)]], budget=20)
        (0, 1)
    """
    useful = [_undominated(options) for options in classes]
    order = sorted(range(len(useful)), key=lambda i: useful[i][-1].loss - useful[i][0].loss)
    rests = _rests([useful[i] for i in order])
    if rests[0].least > budget:
        return None
    costs, losses = torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.float64)
    best, choice = float("inf"), [0] * len(order)
    history: list[tuple[Tensor, Tensor]] = []  # of every state after a class: the state before it, and the option
    for depth, rest in enumerate(rests):
        lower, upper, steps = rest.bounds(budget - costs)
        at = int((losses + upper).argmin())
        if float(losses[at] + upper[at]) < best:
            best = float(losses[at] + upper[at])
            choice = [*_path(history, at), *rest.picks(int(steps[at]))]
        before = (losses + lower < best).nonzero()[:, 0]
        if depth == len(order) or not len(before):
            break
        options = useful[order[depth]]
        costs = (costs[before, None] + torch.tensor([o.cost for o in options])).reshape(-1)
        losses = (losses[before, None] + torch.tensor([o.loss for o in options], dtype=torch.float64)).reshape(-1)
        kept = _front(costs, losses, budget - rests[depth + 1].least)
        history.append((before[kept // len(options)], kept % len(options)))
        costs, losses = costs[kept], losses[kept]
    picked = {i: useful[i][pick].number for i, pick in zip(order, choice, strict=True)}
    return tuple(picked[i] for i in range(len(classes)))


@dataclass(frozen=True)
class _Useful:
    """An option that no other of its class beats, and its number in the class."""

    cost: int
    loss: float
    number: int


def _undominated(options: Sequence[Option]) -> list[_Useful]:
    """By rising cost and falling loss."""
    kept: list[_Useful] = []
    for number, (cost, loss) in sorted(enumerate(options), key=lambda item: (item[1], item[0])):
        if not kept or loss < kept[-1].loss:
            kept.append(_Useful(cost, loss, number))
    return kept


def _front(costs: Tensor, losses: Tensor, most: int) -> Tensor:
    """The numbers of the states within `most` that no other one beats, by rising cost."""
    numbers = (costs <= most).nonzero()[:, 0]
    numbers = numbers[torch.argsort(losses[numbers], stable=True)]
    numbers = numbers[torch.argsort(costs[numbers], stable=True)]
    ranked = losses[numbers]
    better = torch.ones(len(numbers), dtype=torch.bool)
    better[1:] = ranked[1:] < ranked.cummin(0).values[:-1]
    return numbers[better]


def _path(history: Sequence[tuple[Tensor, Tensor]], state: int) -> list[int]:
    """The options that led to a state, class by class."""
    picks = []
    for before, pick in reversed(history):
        picks.append(int(pick[state]))
        state = int(before[state])
    return picks[::-1]


@dataclass(frozen=True)
class _Rest:
    """The classes to come, relaxed: all begin with their cheapest option, and steps to dearer ones, which may be
    taken in part, are taken from the one that saves most loss a bit on.

    Attributes:
        classes: how many.
        least, loss: totals of the cheapest options.
        steps: class and option that each step leads to.
        costs, losses: int64, fp64 [steps + 1]: what the first 0, 1, 2, … steps add.
    """

    classes: int
    least: int
    loss: float
    steps: tuple[tuple[int, int], ...]
    costs: Tensor
    losses: Tensor

    def bounds(self, budgets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For every budget a lower bound of the total loss, the loss of the whole steps alone, and their number."""
        room = budgets - self.least
        whole = torch.searchsorted(self.costs, room, right=True) - 1
        upper = self.loss + self.losses[whole]
        following = (whole + 1).clamp(max=len(self.steps))
        cost = (self.costs[following] - self.costs[whole]).clamp(min=1)
        part = (room - self.costs[whole]).double() / cost
        return upper + part * (self.losses[following] - self.losses[whole]), upper, whole

    def picks(self, steps: int) -> list[int]:
        """The option of every class after the first steps."""
        picked = [0] * self.classes
        for position, option in self.steps[:steps]:
            picked[position] = option
        return picked


def _rests(classes: Sequence[list[_Useful]]) -> list[_Rest]:
    """What is still to come before each class, and after the last."""
    every = sorted(
        (rate, cost, loss, position, option)
        for position, options in enumerate(classes)
        for rate, cost, loss, option in _steps(options)
    )
    rests = []
    for first in range(len(classes) + 1):
        own = [step for step in every if step[3] >= first]
        costs = torch.tensor([0, *(step[1] for step in own)]).cumsum(0)
        losses = torch.tensor([0.0, *(step[2] for step in own)], dtype=torch.float64).cumsum(0)
        cheapest = [options[0] for options in classes[first:]]
        steps = tuple((position - first, option) for _, _, _, position, option in own)
        least, loss = sum(o.cost for o in cheapest), sum(o.loss for o in cheapest)
        rests.append(_Rest(len(cheapest), least, loss, steps, costs, losses))
    return rests


def _steps(options: Sequence[_Useful]) -> list[tuple[float, int, float, int]]:
    """Steps along the lower convex hull of a class: loss a cost (negative, and rising), cost, loss, option."""
    hull = [0]
    for number in range(1, len(options)):
        while len(hull) > 1 and _rate(options, hull[-2], hull[-1]) >= _rate(options, hull[-1], number):
            hull.pop()
        hull.append(number)
    return [
        (_rate(options, a, b), options[b].cost - options[a].cost, options[b].loss - options[a].loss, b)
        for a, b in pairwise(hull)
    ]


def _rate(options: Sequence[_Useful], first: int, second: int) -> float:
    return (options[second].loss - options[first].loss) / (options[second].cost - options[first].cost)

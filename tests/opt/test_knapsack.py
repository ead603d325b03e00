"""The choice under a budget is the best there is: the same loss as trying all, and nothing over the budget."""

import itertools
import random
import time

import pytest

from mtcore.opt.knapsack import choose


def by_trying_all(classes, budget):
    """Least loss of all choices within the budget; None where there is none."""
    totals = [
        sum(loss for _, loss in picks)
        for picks in itertools.product(*classes)
        if sum(cost for cost, _ in picks) <= budget
    ]
    return min(totals, default=None)


def drawn(rng, count, options, costs=40):
    """Losses are multiples of 2^-10 below 2^10, so that their sums are exact in fp64 in any order."""
    return [[(rng.randint(0, costs), rng.randint(0, 2**20) / 2**10) for _ in range(options)] for _ in range(count)]


@pytest.mark.parametrize("seed", range(60))
def test_no_other_choice_within_the_budget_loses_less(seed):
    rng = random.Random(seed)
    classes = drawn(rng, rng.randint(1, 6), rng.randint(1, 4))
    for budget in (rng.randint(0, 200) for _ in range(8)):
        chosen, least = choose(classes, budget), by_trying_all(classes, budget)
        if least is None:
            assert chosen is None
        else:
            picks = [options[i] for options, i in zip(classes, chosen, strict=True)]
            assert sum(cost for cost, _ in picks) <= budget
            assert sum(loss for _, loss in picks) == least


def test_options_off_the_convex_hull_are_taken_where_they_fit():
    assert choose([[(10, 0.0), (6, 5.0), (0, 8.0)]], 7) == (1,)


def test_of_equal_options_the_first_is_taken():
    assert choose([[(8, 1.0), (8, 1.0)]], 8) == (0,)


def test_without_classes_nothing_is_chosen():
    assert choose([], 0) == ()


def test_a_budget_below_the_least_cost_has_no_choice():
    assert choose([[(4, 1.0), (8, 0.0)]], 3) is None


def test_equal_layers_by_the_hundred_are_solved_in_seconds():
    """500 decisions of a model whose blocks are alike: four shapes, four formats, losses that vary by layer."""
    rng = random.Random(0)
    classes = []
    for number in range(500):
        size = (4, 4, 11, 22)[number % 4] * 2**20
        worth = 2 ** rng.uniform(-4, 4)
        classes.append(
            [(size * bits, worth * rng.uniform(0.5, 2) / 4**bits) for bits in (3, 4, 8)] + [(size * 16, 0.0)]
        )
    start = time.process_time()
    budget = sum(options[0][0] for options in classes) * 5 // 3
    chosen = choose(classes, budget)
    assert time.process_time() - start < 20
    assert sum(options[i][0] for options, i in zip(classes, chosen, strict=True)) <= budget

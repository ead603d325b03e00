"""Any budget is solved from the scores alone; one that cannot be kept says the least that can."""

import pytest

from mtcore.opt import AS_IT_IS, BudgetError, Decision, Searcher

UP = Decision(("up",), 100, {AS_IT_IS: 1600, "fp8": 800, "nvfp4": 450})
DOWN = Decision(("down",), 300, {AS_IT_IS: 4800, "fp8": 2400, "nvfp4": 1350})
ODD = Decision(("odd",), 50, {AS_IT_IS: 800}, {"fp8": "odd: has no blocks"})
SCORES = {"up": {"fp8": 0.01, "nvfp4": 0.5}, "down": {"fp8": 0.02, "nvfp4": 0.1}}


@pytest.fixture
def searcher():
    return Searcher((UP, DOWN), SCORES, rest_bits=8000)


def test_more_bits_go_where_they_save_most(searcher):
    solution = searcher.solve(bits=5.5)
    assert solution.chosen == ("fp8", "nvfp4")
    assert solution.bits_per_weight == (800 + 1350) / 400
    assert solution.score == 0.01 + 0.1
    assert solution.shares() == {"fp8": 0.25, "nvfp4": 0.75}


def test_a_size_counts_all_of_the_checkpoint(searcher):
    assert searcher.solve(size=1000 + (800 + 1350) // 8 + 1).size_bytes == 1000 + 269  # 2150 / 8, rounded up


def test_with_room_for_all_nothing_is_quantized(searcher):
    assert searcher.solve(bits=16).chosen == (AS_IT_IS, AS_IT_IS)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"bits": 4.4}, r"4\.4 bits a weight cannot be reached with fp8, nvfp4: the least is 4\.5 bits"),
        ({"bits": float("nan")}, "nan is no number of bits a weight"),
        ({"bits": float("inf")}, "inf is no number of bits a weight"),
        ({"size": 1000}, r"1,000 bytes cannot be reached.*the least is 1,225 bytes"),
    ],
)
def test_a_budget_that_cannot_be_kept_says_the_least(searcher, budget, message):
    with pytest.raises(BudgetError, match=message):
        searcher.solve(**budget)


def test_it_says_which_layers_must_stay():
    with pytest.raises(BudgetError, match=r"\(odd must stay: odd: has no blocks\)"):
        Searcher((UP, ODD), SCORES).solve(bits=5)


@pytest.mark.parametrize("budget", [{}, {"bits": 5, "size": 100}])
def test_one_budget_is_given(searcher, budget):
    with pytest.raises(TypeError, match="give bits, or size"):
        searcher.solve(**budget)


def test_a_choice_alone_leaves_the_layers_that_do_not_have_it():
    assert Searcher((UP, ODD), SCORES).uniform("fp8").chosen == ("fp8", AS_IT_IS)


def test_a_solution_is_plain_data(searcher):
    data = searcher.solve(bits=5.5).to_json()
    assert data["decisions"][0] == {
        "name": "up",
        "modules": ["up"],
        "choice": "fp8",
        "bits": 8.0,
        "score": 0.01,
        "refused": {},
    }

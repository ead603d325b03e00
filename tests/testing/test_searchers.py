"""SearcherContract: it holds for the built-in searchers, and finds those that break it."""

import pytest
import torch

from mtcore.opt import Look, SearcherSpec, builtin_searchers
from mtcore.testing import SearcherContract


class TestBuiltin(SearcherContract):
    @pytest.fixture(params=builtin_searchers(), ids=lambda spec: spec.name)
    def searcher(self, request):
        return request.param


def look():
    generator = torch.Generator().manual_seed(0)
    exact, noise = torch.randn(4, 8, generator=generator), torch.randn(4, 8, generator=generator)
    return Look(exact, exact + noise / 8)


@pytest.mark.parametrize(
    ("score", "test", "message"),
    [
        (lambda look: (look.rounded - look.exact).square(), "a_score_is_one_finite_number_above_zero", "numbers"),
        (lambda look: look.rounded.square().sum(), "no_error_costs_nothing", "nothing changed"),
        (lambda look: (look.rounded != look.exact).sum(), "a_larger_error_costs_more", "four times"),
        (
            lambda look: (look.rounded - look.exact).square().sum() / look.exact.square().sum(),
            "an_output_of_zeros_has_a_finite_score",
            "zeros",
        ),
    ],
)
def test_a_searcher_that_breaks_a_promise_is_told_which(score, test, message):
    with pytest.raises(AssertionError, match=message):
        getattr(SearcherContract(), f"test_{test}")(SearcherSpec("mine", "mine", score), look())

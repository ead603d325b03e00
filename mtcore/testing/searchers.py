"""SearcherContract: what every searcher promises."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mtcore.opt import Look, SearcherSpec


class SearcherContract:
    """Override the fixture `searcher`; and `look` where it judges other outputs than [tokens, channels]."""

    @pytest.fixture
    def searcher(self) -> SearcherSpec:
        raise NotImplementedError("override the fixture `searcher`: the record that is tested")

    @pytest.fixture
    def look(self) -> Look:
        generator = torch.Generator().manual_seed(0)
        exact, noise, gradient = (torch.randn(12, 8, generator=generator) for _ in range(3))
        return Look(exact, exact + noise / 16, gradient, samples=12)

    def test_the_name_and_the_summary_are_one_line_each(self, searcher: SearcherSpec) -> None:
        for text in (searcher.name, searcher.summary):
            assert text.strip(), f"{searcher.name}: a name and a summary have a text"
            assert "\n" not in text, f"{searcher.name}: a listing shows one line"
        assert "/" not in searcher.name, f"{searcher.name}: the name becomes part of a file's name"

    def test_a_score_is_one_finite_number_above_zero(self, searcher: SearcherSpec, look: Look) -> None:
        score = self._score(searcher, look)
        assert score.shape == (), f"{searcher.name} gives {tuple(score.shape)} numbers for a look"
        assert 0 < score < math.inf, f"{searcher.name} gives {score} for outputs that differ"

    def test_no_error_costs_nothing(self, searcher: SearcherSpec, look: Look) -> None:
        score = self._score(searcher, replace(look, rounded=look.exact))
        assert score == 0, f"{searcher.name} gives {score} where nothing changed"

    def test_a_larger_error_costs_more(self, searcher: SearcherSpec, look: Look) -> None:
        small, large = (
            self._score(searcher, replace(look, rounded=look.exact + times * (look.rounded - look.exact)))
            for times in (1, 4)
        )
        assert large > small, f"{searcher.name} gives {large} for four times the error that costs {small}"

    def test_an_output_of_zeros_has_a_finite_score(self, searcher: SearcherSpec, look: Look) -> None:
        score = self._score(searcher, replace(look, exact=look.exact * 0, rounded=look.exact * 0))
        assert math.isfinite(score), f"{searcher.name} gives {score} for an output of zeros"

    def test_sixteen_bit_outputs_are_judged_in_more(self, searcher: SearcherSpec, look: Look) -> None:
        half = {part: getattr(look, part).bfloat16() for part in ("exact", "rounded", "gradient")}
        score = self._score(searcher, replace(look, **half))
        assert score.dtype in (torch.float32, torch.float64), f"{searcher.name} sums in {score.dtype}"

    def test_what_it_is_shown_stays_as_it_is(self, searcher: SearcherSpec, look: Look) -> None:
        before = [look.exact.clone(), look.rounded.clone()]
        self._score(searcher, look)
        assert all(map(torch.equal, before, (look.exact, look.rounded))), f"{searcher.name} changed an output"

    @staticmethod
    def _score(searcher: SearcherSpec, look: Look) -> torch.Tensor:
        """Without a gradient where the searcher asks for none."""
        return searcher.score(look if searcher.gradients else replace(look, gradient=None, samples=1))

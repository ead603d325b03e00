"""The recipe keeps the contract of recipes."""

import pytest

from mtcore.testing import RecipeContract
from mtopt_example import hooks
from mtopt_example.recipe import FP5


class TestFp5(RecipeContract):
    @pytest.fixture
    def recipe(self):
        return FP5

    @pytest.fixture
    def plugin(self):
        return hooks

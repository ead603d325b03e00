"""The built-in recipes, as a hook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mtcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from mtcore.recipe import RecipeSpec


@hookimpl
def mtcore_recipes() -> Iterable[RecipeSpec]:
    from mtcore.recipe import builtin_recipes

    return builtin_recipes()

"""Configurations in the grammars of Model-Optimizer and the reference architecture, translated at the boundary."""

from mtcore.recipe.foreign.algorithms import spelled_here
from mtcore.recipe.foreign.config import is_foreign, resolve_foreign

__all__ = ["is_foreign", "resolve_foreign", "spelled_here"]

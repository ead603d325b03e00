"""The record of a named recipe: what a preset, or a plugin's recipe, is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RecipeSpec:
    """A recipe that can be asked for by name.

    Attributes:
        name: what a user writes: "nvfp4".
        summary: one line for listings.
        text: the recipe in YAML, as a file would hold it.
    """

    name: str
    summary: str
    text: str

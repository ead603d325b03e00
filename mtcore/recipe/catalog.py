"""The recipes that mtcore brings: one YAML file each in presets/, yielded to the registry like anybody's plugin."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources

from mtcore.recipe.spec import RecipeSpec

_SUMMARY = re.compile(r'^summary: *"?(.*?)"?$', re.MULTILINE)


def builtin_recipes() -> Iterator[RecipeSpec]:
    """The presets by name, in alphabetical order. Their YAML is parsed only when one is loaded."""
    folder = resources.files("mtcore.recipe") / "presets"
    for file in sorted(folder.iterdir(), key=lambda item: item.name):
        if not file.name.endswith(".yaml"):
            continue
        text = file.read_text(encoding="utf-8")
        summary = _SUMMARY.search(text)
        assert summary, f"preset {file.name} has no summary"
        yield RecipeSpec(file.name.removesuffix(".yaml"), summary[1], text)

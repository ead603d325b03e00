"""A recipe that a user can name: FP8 weights, inputs as they are."""

from __future__ import annotations

from mtcore.recipe import RecipeSpec

HALF = RecipeSpec(
    "template-half",
    "FP8 weights, inputs as they are",
    """\
rules:
  - weight: fp8
  - include: base_exclusions
algorithm: max
""",
)

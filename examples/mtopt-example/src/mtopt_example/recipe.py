"""The recipe of this plugin: its format for weights, its algorithm for activations."""

from mtcore.recipe import RecipeSpec

FP5 = RecipeSpec(
    "fp5",
    "FP5 weights, INT8 activations cut off at six times their root mean square",
    """\
summary: FP5 weights, INT8 activations cut off at six times their root mean square
rules:
  - weight: fp5_row
    input: {format: int8, mode: static}
  - include: base_exclusions
algorithm: {method: sigma_clip, sigmas: 6}
""",
)

"""What the user asked for: recipes, their grammars and the configuration they resolve to. Imports no torch."""

from mtcore.recipe.setting import (
    SLOTS,
    AlgorithmStep,
    Mode,
    QuantizeConfig,
    SlotRule,
    SlotSetting,
    default_mode,
    mode_problem,
    quantizer_names,
)
from mtcore.recipe.spec import RecipeSpec

__all__ = [
    "SLOTS",
    "AlgorithmStep",
    "Mode",
    "QuantizeConfig",
    "RecipeSpec",
    "SlotRule",
    "SlotSetting",
    "default_mode",
    "mode_problem",
    "quantizer_names",
]

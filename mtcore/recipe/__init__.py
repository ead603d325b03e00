"""What the user asked for: recipes, their grammars and the configuration they resolve to. Imports no torch."""

from mtcore.recipe.catalog import builtin_recipes
from mtcore.recipe.dump import to_dict, to_yaml
from mtcore.recipe.load import load_config
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
    "builtin_recipes",
    "default_mode",
    "load_config",
    "mode_problem",
    "quantizer_names",
    "to_dict",
    "to_yaml",
]

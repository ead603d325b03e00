"""What the user asked for: recipes, their grammars and the configuration they resolve to. Imports no torch.

Reading and writing recipes needs pydantic and yaml, which take their time to import; so these names are imported
when they are first used, while the values that every room speaks of are at hand.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mtcore.recipe.catalog import builtin_recipes
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

if TYPE_CHECKING:
    from mtcore.recipe.dump import to_dict, to_yaml
    from mtcore.recipe.load import load_config

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

_HOMES = {"load_config": "mtcore.recipe.load", "to_dict": "mtcore.recipe.dump", "to_yaml": "mtcore.recipe.dump"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mtcore.recipe' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

"""What every test of recipes needs: the catalogs, and shortcuts that load or collect problems."""

import pytest

from mtcore.errors import RecipeError
from mtcore.formats import builtin_formats
from mtcore.recipe import builtin_recipes, load_config


@pytest.fixture(scope="session")
def formats():
    return {name: fmt for fmt in builtin_formats() for name in (fmt.name, *fmt.aliases)}


@pytest.fixture(scope="session")
def recipes():
    return {spec.name: spec for spec in builtin_recipes()}


@pytest.fixture(scope="session")
def load(formats, recipes):
    """load(source, *overrides, recipes={}) -> QuantizeConfig, with further recipes."""
    own = recipes

    def load(source, *overrides, recipes=()):
        return load_config(source, formats=formats, recipes={**own, **dict(recipes)}, overrides=overrides)

    return load


@pytest.fixture(scope="session")
def problems_of(load):
    """The problems that loading raises, as a list of lines."""

    def problems_of(source, *overrides, recipes=()):
        with pytest.raises(RecipeError) as caught:
            load(source, *overrides, recipes=recipes)
        return list(caught.value.problems)

    return problems_of


@pytest.fixture(scope="session")
def decide():
    """decide(config, module, slot) -> the setting of a slot after all rules, or None where it is off."""

    def decide(config, module, slot, module_type="nn.Linear"):
        setting, enabled = None, False
        for rule in config.rules:
            if rule.matches(module, slot, is_weight=slot == "weight", module_type=module_type):
                setting = rule.setting or setting
                enabled = rule.enable
        return setting if enabled else None

    return decide

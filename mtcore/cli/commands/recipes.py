"""`mtopt recipes`: the recipes that have a name, and what one of them says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mtcore.cli.command import Answer, Command
from mtcore.cli.session import chosen_recipe, open_registry

if TYPE_CHECKING:
    from rich.console import Console

    from mtcore.plugins import Registry
    from mtcore.recipe.setting import QuantizeConfig, SlotRule


@click.command(cls=Command, short_help="List the recipes, or show one.", example="mtopt recipes nvfp4")
@click.argument("name", required=False)
def recipes(name: str | None) -> Answer:
    """List the recipes; with NAME (or a YAML file) show that one with every rule resolved."""
    registry = open_registry()
    if name is None:
        return _list(registry)
    return _show(chosen_recipe(name, (), None, registry))


def _list(registry: Registry) -> Answer:
    rows = [(recipe.name, recipe.summary) for recipe in registry.recipes.values()]

    def draw(console: Console) -> None:
        from mtcore.cli.views import print_table

        print_table(console, ("recipe", "what it does"), rows)

    return Answer([{"name": name, "summary": summary} for name, summary in rows], draw)


def _show(config: QuantizeConfig) -> Answer:
    def draw(console: Console) -> None:
        from mtcore.cli.views import print_table

        console.print(f"[bold]{config.name}[/]  {config.summary}")
        rows = [
            (rule.pattern, rule.module_type or rule.role or "any", _effect(rule), rule.origin)
            for rule in config.rules
        ]
        print_table(console, ("quantizers", "of", "get", "said by"), rows)
        steps = " → ".join(step.method for step in config.algorithm) or "none"
        console.print(f"calibration: {steps}; at most {config.max_unquantized:.0%} may stay without a rule")

    return Answer(_as_data(config), draw)


def _effect(rule: SlotRule) -> str:
    if not rule.enable:
        return "off"
    return str(rule.setting) if rule.setting else "on"


def _as_data(config: QuantizeConfig) -> dict[str, Any]:
    return {
        "name": config.name,
        "summary": config.summary,
        "max_unquantized": config.max_unquantized,
        "algorithm": [{"method": step.method, "options": dict(step.options)} for step in config.algorithm],
        "rules": [
            {
                "pattern": rule.pattern,
                "module_type": rule.module_type,
                "role": rule.role,
                "enable": rule.enable,
                "format": rule.setting.format.name if rule.setting else None,
                "mode": rule.setting.mode if rule.setting else None,
                "amax": rule.setting.amax if rule.setting else None,
                "options": dict(rule.setting.options) if rule.setting else {},
                "origin": rule.origin,
            }
            for rule in config.rules
        ],
    }

"""From a solution to a recipe: text in the grammar of recipes, one rule a decision, with the reason above it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from glob import escape
from typing import Any

import yaml

from mtcore.errors import RecipeError
from mtcore.formats import TensorFormat
from mtcore.opt.cost import by_name
from mtcore.opt.decisions import AS_IT_IS, Decision
from mtcore.opt.searcher import Solution
from mtcore.plan import ModulePlan, Plan, SlotPlan
from mtcore.recipe import SLOTS, QuantizeConfig, default_mode, quantizer_names, to_dict
from mtcore.recipe.inline import format_fields

Setting = str | dict[str, Any]
"""Of a slot, as a recipe writes it."""


def recipe_text(
    solution: Solution,
    plans: Mapping[str, Plan],
    configs: Mapping[str, QuantizeConfig],
    *,
    formats: Mapping[str, TensorFormat],
    title: str,
    targets: Sequence[str] = (),
) -> str:
    """A recipe that does what was chosen, and to all other modules what the choices agree on.

    Args:
        plans, configs: of the choices, by name; they agree, see `check_agreement`.
        formats: those that the recipe may name; others are written out in it.
        title: one line: how it was found.
        targets: for whom the checkpoints are.
    """
    planned = {choice: by_name(plan) for choice, plan in plans.items()}
    rules = ["rules:\n"]
    for decision, choice, score in zip(solution.decisions, solution.chosen, solution.scores, strict=True):
        bits = f"{decision.bits_per_weight(choice):.4g} bits a weight"
        rules.append(f"  # {decision.name}: {choice}, {bits}, score {score:.3g}\n")
        if choice == AS_IT_IS:
            rules.append(_entry({"modules": _names(decision.modules), "skip": True}))
        else:
            rules += map(_entry, _rules([planned[choice][name] for name in decision.modules]))
    others = _others(next(iter(plans.values())), solution.decisions)
    for module in (module for module in others if module.quantized):
        rules += ["  # as in all choices\n", *map(_entry, _rules([module]))]
    left = [module.name for module in others if not module.quantized and module.by_rule]
    if left:
        rules += [
            "  # left as they are by the recipes of the choices\n",
            _entry({"modules": _names(left), "skip": True}),
        ]
    asked = list(configs.values())
    settings = replace(
        asked[0],
        name="searched",
        summary=title,
        rules=(),
        max_unquantized=min(config.max_unquantized for config in asked),
        targets=tuple(targets),
    )
    data = to_dict(settings, formats=formats)
    used = {slot.format.name: slot.format for plan in plans.values() for m in plan.quantized for slot in m.slots}
    own = {name: format_fields(fmt) for name, fmt in used.items() if formats.get(name) != fmt}
    head = {"name": data.pop("name"), "summary": data.pop("summary"), **({"formats": own} if own else {})}
    del data["rules"]
    return "".join([_block(head), *rules, _block(data)])


def check_agreement(
    decisions: Sequence[Decision], plans: Mapping[str, Plan], configs: Mapping[str, QuantizeConfig]
) -> None:
    """Whether one recipe can mix the choices: what is not decided by module must be the same in all.

    Raises:
        RecipeError: their algorithms differ, or what they do with experts, or to modules without weights of their
            own (attention and its cache), or what they mean by a format's name. All differences together.
    """
    (first, ours), *others = configs.items()
    problems = [f"two choices mean different formats by {name!r}; rename one" for name in _two_meanings(plans)]
    for name, config in others:
        if config.algorithm != ours.algorithm:
            problems.append(
                f"{first} and {name} are calibrated by other algorithms ({_steps(ours)}; {_steps(config)}), and a "
                "recipe has one chain for all; choose recipes that agree, or give all the same: --set algorithm=max"
            )
        if config.experts != ours.experts:
            problems.append(f"{first} and {name} differ in `experts`, of which a recipe has one; let them agree")
        here, there = (_slots(_others(plans[choice], decisions)) for choice in (first, name))
        differ = [module for module in {**here, **there} if here.get(module) != there.get(module)]
        if differ:
            problems.append(
                f"{first} and {name} differ in {', '.join(differ[:3])}{', …' if len(differ) > 3 else ''}, which "
                "hold no weights to decide about; choose recipes that agree on them"
            )
    if problems:
        raise RecipeError(problems)


def _two_meanings(plans: Mapping[str, Plan]) -> list[str]:
    """Names of formats that are not the same in all plans."""
    formats = {slot.format for plan in plans.values() for module in plan.quantized for slot in module.slots}
    names = [fmt.name for fmt in formats]
    return sorted({name for name in names if names.count(name) > 1})


def _steps(config: QuantizeConfig) -> str:
    return ", ".join(f"{step.method} {dict(step.options) or ''}".strip() for step in config.algorithm) or "none"


def _others(plan: Plan, decisions: Sequence[Decision]) -> list[ModulePlan]:
    """The modules that no decision is about, those that hold parameters or are quantized."""
    decided = {name for decision in decisions for name in decision.modules}
    return [module for module in plan.modules if module.name not in decided]


def _slots(modules: Sequence[ModulePlan]) -> dict[str, list[tuple[object, ...]]]:
    """What is done to those that are quantized, by name."""
    return {
        module.name: [(slot.slot, slot.format, slot.mode, slot.amax) for slot in module.slots]
        for module in modules
        if module.quantized
    }


def _rules(modules: Sequence[ModulePlan]) -> Iterator[dict[str, Any]]:
    """One rule for all where their slots agree, else one a slot that differs."""
    alike: dict[str, list[str]] = {}
    settings: dict[str, dict[str, Setting]] = {}
    for module in modules:
        own = _by_slot(module)
        key = yaml.safe_dump(own)
        settings[key] = own
        alike.setdefault(key, []).append(module.name)
    for key, names in alike.items():
        slots = settings[key]
        if set(slots) <= set(SLOTS) and "" not in names:
            yield {"modules": _names(names), **slots}
            continue
        for slot, setting in slots.items():
            patterns = [quantizer_names(escape(n), slot, is_weight=_is_weight(modules[0], slot))[0] for n in names]
            yield {"quantizers": patterns, "set": setting}


def _by_slot(module: ModulePlan) -> dict[str, Setting]:
    """Settings by slot; the weights of a module that all have the same are its `weight`, and inputs likewise."""
    settings = {slot.slot: _setting(slot, is_weight=_is_weight(module, slot.slot)) for slot in module.slots}
    merged: dict[str, Setting] = {}
    for slot, setting in settings.items():
        kind = _kind(module, slot)
        same = all(other == setting for name, other in settings.items() if _kind(module, name) == kind)
        merged[kind if same else slot] = setting
    return merged


def _kind(module: ModulePlan, slot: str) -> str:
    """The word under which rules reach a slot and its like: 'weight' for every weight, 'input' for 'left_input'."""
    return "weight" if _is_weight(module, slot) else slot.rpartition("_")[2]


def _is_weight(module: ModulePlan, slot: str) -> bool:
    return slot in dict(module.shapes) or slot == "weight"


def _setting(slot: SlotPlan, *, is_weight: bool) -> Setting:
    """The format's name alone where it says all."""
    if slot.amax is None and slot.mode == default_mode(slot.format, is_weight=is_weight):
        return slot.format.name
    amax = {} if slot.amax is None else {"amax": slot.amax}
    return {"format": slot.format.name, "mode": slot.mode, **amax}


def _names(modules: Sequence[str]) -> list[str] | str:
    names = [escape(name) for name in modules]
    return names[0] if len(names) == 1 else names


def _entry(rule: Mapping[str, Any]) -> str:
    text = yaml.safe_dump(dict(rule), sort_keys=False, allow_unicode=True, default_flow_style=None, width=112)
    return "  - " + text.replace("\n", "\n    ").rstrip(" ")


def _block(data: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=112)

"""A plan as plain values and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mtcore.errors import FormatError, StateError
from mtcore.formats import TensorFormat, format_from_dict, format_to_dict
from mtcore.plan.plan import Coverage, Finding, ModulePlan, Plan, ScaleGroup, SlotPlan
from mtcore.recipe.setting import AlgorithmStep, ExpertsSetting

VERSION = 1


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """Plain values for JSON: slots name their format, and every format stands in full under "formats"."""
    formats = {slot.format.name: slot.format for module in plan.modules for slot in module.slots}
    return {
        "version": VERSION,
        "recipe": plan.recipe,
        "formats": {name: format_to_dict(fmt) for name, fmt in formats.items()},
        "modules": [_module_to_dict(module) for module in plan.modules],
        "groups": [{**asdict(group), "modules": list(group.modules)} for group in plan.groups],
        "algorithm": [{"method": step.method, "options": dict(step.options)} for step in plan.algorithm],
        "findings": [asdict(finding) for finding in plan.findings],
        "coverage": asdict(plan.coverage),
        "experts": asdict(plan.experts),
        "targets": list(plan.targets),
    }


def plan_from_dict(data: dict[str, Any]) -> Plan:
    """What `plan_to_dict` wrote.

    Raises:
        StateError: it is no plan, or of another version.
    """
    try:
        if data["version"] != VERSION:
            raise StateError(f"a plan of version {data['version']}; this mtcore reads version {VERSION}")
        formats = {name: format_from_dict(fmt) for name, fmt in data["formats"].items()}
        return Plan(
            recipe=data["recipe"],
            modules=tuple(_module_from_dict(module, formats) for module in data["modules"]),
            groups=tuple(ScaleGroup(**{**group, "modules": tuple(group["modules"])}) for group in data["groups"]),
            algorithm=tuple(AlgorithmStep(step["method"], step["options"]) for step in data["algorithm"]),
            findings=tuple(Finding(**finding) for finding in data["findings"]),
            coverage=Coverage(**data["coverage"]),
            experts=ExpertsSetting(**data.get("experts", {})),
            targets=tuple(data.get("targets", ())),
        )
    except (KeyError, TypeError, AttributeError, ValueError, FormatError) as error:
        raise StateError(f"not a plan ({type(error).__name__}: {error})") from error


def _module_to_dict(module: ModulePlan) -> dict[str, Any]:
    return {
        "name": module.name,
        "type": module.type,
        "spec": module.spec,
        "shapes": {name: list(shape) for name, shape in module.shapes},
        "slots": [{**vars(slot), "format": slot.format.name} for slot in module.slots],
        "reason": module.reason,
        "by_rule": module.by_rule,
        "facts": {name: list(numbers) for name, numbers in module.facts},
        "pre_quant_scale": module.pre_quant_scale,
        "low_rank": module.low_rank,
    }


def _module_from_dict(data: dict[str, Any], formats: dict[str, TensorFormat]) -> ModulePlan:
    shapes = tuple((name, tuple(shape)) for name, shape in data["shapes"].items())
    slots = tuple(SlotPlan(**{**slot, "format": formats[slot["format"]]}) for slot in data["slots"])
    facts = tuple((name, tuple(numbers)) for name, numbers in data["facts"].items())
    return ModulePlan(**{**data, "shapes": shapes, "slots": slots, "facts": facts})

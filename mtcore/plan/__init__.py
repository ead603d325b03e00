"""What will be done: a frozen plan, made before anything is touched."""

from mtcore.plan.fold import fold_names, folded, leave_out, skeleton
from mtcore.plan.make import make_plan
from mtcore.plan.part import part_of, without
from mtcore.plan.plan import Coverage, Extra, Finding, Holds, ModulePlan, Plan, ScaleGroup, SlotPlan, holds_nothing
from mtcore.plan.serial import plan_from_dict, plan_to_dict

__all__ = [
    "Coverage",
    "Extra",
    "Finding",
    "Holds",
    "ModulePlan",
    "Plan",
    "ScaleGroup",
    "SlotPlan",
    "fold_names",
    "folded",
    "holds_nothing",
    "leave_out",
    "make_plan",
    "part_of",
    "plan_from_dict",
    "plan_to_dict",
    "skeleton",
    "without",
]

"""What will be done: a frozen plan, made before anything is touched."""

from mtcore.plan.make import make_plan
from mtcore.plan.plan import Coverage, Finding, ModulePlan, Plan, ScaleGroup, SlotPlan

__all__ = ["Coverage", "Finding", "ModulePlan", "Plan", "ScaleGroup", "SlotPlan", "make_plan"]

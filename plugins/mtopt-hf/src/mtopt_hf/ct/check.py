"""What keeps a plan from being written in the dialect, found before anything is calibrated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mtcore.plan import ModulePlan, Plan, SlotPlan
from mtopt_hf.ct.spelling import SPELLINGS, spelling_of

DIALECT = "compressed-tensors"
_MODULE_KINDS = ("nn.Linear",)
_SHOWN = 3  # modules named in one problem; a large model has thousands


def check_plan(plan: Plan) -> Sequence[str]:
    """Problems of the plan, each with the modules that have it and what to do; empty if all can be written."""
    found: dict[str, list[str]] = {}
    for module in plan.quantized:
        for problem in _problems(module):
            found.setdefault(problem, []).append(module.name)
    return [f"{_some(modules)}: {problem}" for problem, modules in found.items()]


def _problems(module: ModulePlan) -> Iterator[str]:
    weight, given = module.slot("weight"), module.slot("input")
    if module.spec not in _MODULE_KINDS:
        yield f"{DIALECT} holds quantized linear layers only, not {module.type}; exclude it"
        return
    for slot in module.slots:
        if slot not in (weight, given):
            yield f"no client runs {slot.slot} quantizers from {DIALECT}; switch off the rule ({slot.rule})"
    if weight is None:
        yield f"{DIALECT} holds no quantized input without a quantized weight; quantize both or none"
        return
    yield from _weight_problems(module, weight, alone=given is None)
    if given is not None:
        yield from _input_problems(weight, given)


def _weight_problems(module: ModulePlan, slot: SlotPlan, *, alone: bool) -> Iterator[str]:
    spelling = spelling_of(slot.format)
    if spelling is None:
        yield _unknown(slot)
        return
    if alone and spelling.layout_alone is None:
        yield f"no client reads weights in {slot.format.name} whose input is not quantized; quantize the input too"
    group, (_, cols) = spelling.weight.get("group_size"), dict(module.shapes)["weight"]
    if group is not None and cols % group:
        yield (
            f"in_features {cols} is not a multiple of {group}, which format {slot.format.name} ({slot.rule}) "
            f"needs in {DIALECT}; exclude it"
        )


def _input_problems(weight: SlotPlan, given: SlotPlan) -> Iterator[str]:
    spelling, of_weight = spelling_of(given.format), spelling_of(weight.format)
    if spelling is None:
        yield _unknown(given)
        return
    if given.mode not in spelling.activation:
        modes = " or ".join(spelling.activation)
        yield f"inputs in {given.format.name} are {modes} in {DIALECT}, not {given.mode} ({given.rule})"
    if of_weight is not None and spelling.family != of_weight.family:
        yield (
            f"{DIALECT} does not pair weights in {weight.format.name} ({weight.rule}) with inputs in "
            f"{given.format.name} ({given.rule}); choose formats of one family"
        )


def _unknown(slot: SlotPlan) -> str:
    known = ", ".join(spelling.format.name for spelling in SPELLINGS)
    return f"format {slot.format.name} ({slot.slot}, {slot.rule}) cannot be spelled in {DIALECT}; it has {known}"


def _some(modules: Sequence[str]) -> str:
    more = len(modules) - _SHOWN
    return ", ".join(modules[:_SHOWN]) + (f" and {more} more" if more > 0 else "")

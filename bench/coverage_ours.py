"""mtcore on one model of the benchmark of coverage: plan, leave out by rule what cannot be written, go."""

from __future__ import annotations

import copy
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from coverage_case import Case
from coverage_client import logits
from torch import Tensor

from mtcore.export import SourceFiles
from mtcore.flow import LoadedModel, export_model, load_checkpoint
from mtcore.lint import lint, open_checkpoint
from mtcore.plan import ModulePlan, Plan
from mtcore.plugins import default_registry
from mtcore.quantization import apply_plan, plan_model
from mtopt_hf.as_client import compute_as_transformers
from mtopt_hf.checkpoint import apart_problems
from mtopt_hf.quantizer import registered
from mtopt_hf.quiet import quiet_transformers

DIALECT = "compressed-tensors"
RECIPES: dict[str, dict[str, Any]] = {
    "fp8": {"include": ["fp8"]},
    "nvfp4": {"include": ["nvfp4"]},
    "int4": {"rules": [{"weight": "int4_b32"}, {"include": "base_exclusions"}], "algorithm": "max"},
    "int8": {"include": ["int8_weight_only"]},
}
"""INT4 in blocks of 32, for the tiny models are 32 wide."""


def build(case: Case) -> Any:
    """The checkpoint as our loader opens it."""
    return load_checkpoint(str(case.source))


UNITS: dict[str, float] = {}
CLIENTS = {"transformers": nullcontext, "mtopt_hf": registered, "experts_bare": nullcontext}
"""Who opens what we wrote: transformers alone, and with our quantizer registered in it. The last one is the first,
held against experts in NVFP4 without their outer scale: the cause of a difference, where there are any."""


def quantize(loaded: Any, case: Case, recipe: str, out: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Write `out`. Gives what each client's logits should be, and facts for the row."""
    inputs = case.inputs()
    plan = settled_plan(loaded, recipe, inputs)
    facts = {
        "plan": _told(plan),
        "layers": len(plan.quantized),
        "reported": _reported(loaded.model, plan),
    }
    model = apply_plan(loaded.model, plan, [inputs])
    export_model(model, out, source=loaded.files)
    facts["foretold"] = foretold(out)
    found = {"mtopt_hf": logits(model, inputs)}
    if recipe == "nvfp4" and any(module.spec == "experts" for module in plan.quantized):
        bare = copy.deepcopy(model)
        compute_as_transformers(bare, experts_bare=True)
        found["experts_bare"] = logits(bare, inputs)
    compute_as_transformers(model)
    return {"transformers": logits(model, inputs), **found}, facts


def settled_plan(loaded: LoadedModel, recipe: str, inputs: dict[str, Any]) -> Plan:
    """The plan after a rule for every module that format, dialect or transformers cannot take, or no data reach."""
    config = {**RECIPES[recipe], "max_unquantized": 1.0}
    plan = plan_model(loaded.model, config, inputs=inputs)
    modules = {module.name: module for module in plan.quantized}
    refused = {f.where: f.message for f in plan.findings if f.where in modules and f.level != "note"}
    for name, module in modules.items() if _problems(plan, loaded.files) else ():
        problems = _problems(replace(plan, modules=(module,)), loaded.files)
        if problems:
            refused[name] = problems[0].partition(": ")[2]
    if refused:
        rules = [*config.get("rules", []), *({"modules": [name], "skip": True} for name in refused)]
        plan = plan_model(loaded.model, {**config, "rules": rules}, inputs=inputs)
        plan = replace(plan, modules=tuple(_with_reason(m, refused) for m in plan.modules))
    return plan


def _problems(plan: Plan, files: SourceFiles) -> tuple[str, ...]:
    """What the dialect cannot take, else what transformers does not open of it."""
    found = default_registry().exporters[DIALECT].problems(plan, files)
    return found or tuple(apart_problems("hf", plan, files))


def _reported(model: torch.nn.Module, plan: Plan) -> list[str]:
    """Patterns of what the plan names with a reason: everything, unless a matrix of the model is missing in it.

    The plan speaks of modules in memory, which have other names in some files.
    """
    named = {module.name for module in plan if module.quantized or module.reason}
    matrices = {name.rpartition(".")[0] for name, p in model.named_parameters() if p.dim() > 1}
    return ["*"] if matrices <= named else sorted(named)


def _with_reason(module: ModulePlan, refused: dict[str, str]) -> ModulePlan:
    return replace(module, reason=refused[module.name]) if module.name in refused else module


def _told(plan: Plan) -> dict[str, Any]:
    """Elements of matrices by what the plan says about them."""
    counts: Counter[str] = Counter()
    for module in plan.modules:
        size = sum(torch.Size(shape).numel() for _, shape in module.shapes if len(shape) > 1)
        counts["quantized" if module.quantized else module.reason] += size
    return {reason: size for reason, size in counts.items() if size}


def foretold(out: Path) -> list[str]:
    """The rules by which the linter says, before it is tried, that transformers does not open a checkpoint."""
    registry = default_registry()
    report = lint(open_checkpoint(out), [registry.clients["transformers"]], registry.lint_rules.values())
    return sorted({finding.rule for finding in report.findings if finding.severity == "error"})


def quiet() -> Any:
    return quiet_transformers()

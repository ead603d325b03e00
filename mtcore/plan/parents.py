"""Parents and children: layers whose weights their parent reads without calling them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

from mtcore.nn import QuantModuleSpec, match_spec
from mtcore.plan.plan import Finding, ModulePlan


def children_read(model: nn.Module, specs: Mapping[str, QuantModuleSpec]) -> dict[str, str]:
    """Child → parent, for the children that a parent with a quantized form reads without calling them."""
    found = {}
    parents = [spec for spec in specs.values() if spec.children]
    for name, module in model.named_modules():
        spec = match_spec(module, parents).spec
        for child in spec.children if spec is not None else ():
            found[f"{name}.{child}" if name else child] = name
    return found


def without_orphans(
    modules: Sequence[ModulePlan], parents: Mapping[str, str]
) -> tuple[list[ModulePlan], list[Finding]]:
    """The plans, without children that would be quantized though their parent stays and would never call them."""
    quantized = {module.name for module in modules if module.quantized}
    kept: list[ModulePlan] = []
    findings: list[Finding] = []
    for module in modules:
        parent = parents.get(module.name)
        if module.quantized and parent is not None and parent not in quantized:
            reason = f"{parent or 'the model'} reads it without calling it, and is not quantized itself"
            findings.append(Finding("warning", module.name, f"stays as it is: {reason}"))
            module = replace(module, slots=(), reason=reason)
        kept.append(module)
    return kept, findings

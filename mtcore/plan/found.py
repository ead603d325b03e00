"""What the trace finds in modules of any class: attention, and stacked expert weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mtcore.nn import QuantModuleSpec
from mtcore.plan.plan import Finding
from mtcore.trace import TraceReport

Facts = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Found:
    """The record for a module that no type matched, and the facts that its twin needs."""

    spec: QuantModuleSpec
    facts: Facts


def found_modules(
    trace: TraceReport | None, specs: Mapping[str, QuantModuleSpec]
) -> tuple[dict[str, Found], list[Finding]]:
    """By module name, what the trace found; and what cannot be used of it.

    A module that computes attention around another one that does too is left out: their calls could not be told
    apart.
    """
    found: dict[str, Found] = {}
    findings: list[Finding] = []
    if trace is None:
        return found, findings
    by_fact = {spec.found_by: spec for spec in specs.values()}
    sites = {site.module: site for site in trace.attentions}
    for name, site in sites.items() if "attention" in by_fact else ():
        inner = next(
            (other for other in sites if other != name and other.startswith(f"{name}." if name else "")), None
        )
        if inner is not None:
            message = f"its attention stays as it is: {inner} inside it computes attention too"
            findings.append(Finding("note", name, message))
            continue
        facts: Facts = {}
        if site.kind == "products":
            facts = {"scores": site.scores, "values": site.values, "products": (site.products,)}
        found[name] = Found(by_fact["attention"], facts)
    for weight in trace.stacked if "stacked" in by_fact else ():
        stacked = found.setdefault(weight.module, Found(by_fact["stacked"], {}))
        if stacked.spec.found_by == "stacked":
            stacked.facts[weight.parameter] = (weight.channel_axis,)
    return found, findings

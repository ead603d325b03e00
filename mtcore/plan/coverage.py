"""The coverage guard: how much of the weights is quantized, and what would be left out in silence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from torch import nn

from mtcore.plan.fold import leave_out
from mtcore.plan.plan import Coverage, Finding, ModulePlan

_SHOWN = 10
"""How many of the largest left-out weights a message lists."""


_RANK = {"quantized": 2, "explained": 1, "unexplained": 0}


def measure_coverage(model: nn.Module, modules: Sequence[ModulePlan]) -> Coverage:
    """Count matrix-weight elements; a parameter that several modules hold counts once, quantized if anywhere."""
    best = _best(model, modules).values()
    sizes = {state: sum(size for size, s in best if s == state) for state in _RANK}
    return Coverage(sum(sizes.values()), sizes["quantized"], sizes["unexplained"])


def _best(model: nn.Module, modules: Sequence[ModulePlan]) -> dict[int, tuple[int, str]]:
    """By identity of a parameter: its elements, and the best that happens to it in any module that holds it."""
    best: dict[int, tuple[int, str]] = {}
    for planned, parameter, size, key in _matrix_weights(model, modules):
        state = _state(planned, parameter)
        if key not in best or _RANK[state] > _RANK[best[key][1]]:
            best[key] = (size, state)
    return best


def coverage_findings(
    model: nn.Module, modules: Sequence[ModulePlan], coverage: Coverage, limit: float
) -> Iterable[Finding]:
    """Weights that nobody decided about: a warning each if they are few, one error if they exceed the limit."""
    best = _best(model, modules)
    left = [
        (size, planned, parameter)
        for planned, parameter, size, key in _matrix_weights(model, modules)
        if best[key][1] == "unexplained"
    ]
    left.sort(key=lambda item: (-item[0], item[1].name))
    for size, planned, parameter in left[:_SHOWN]:
        shape = "x".join(map(str, dict(planned.shapes)[parameter]))
        stacked = " (stacked weights, one matrix an expert)" if len(dict(planned.shapes)[parameter]) == 3 else ""
        yield Finding(
            "warning",
            planned.name,
            f"{parameter} [{shape}]{stacked}, {size / coverage.total:.1%} of the weights, stays unquantized: "
            f"{planned.reason}",
        )
    if len(left) > _SHOWN:
        yield Finding("warning", "coverage", f"{len(left) - _SHOWN} more weights stay unquantized")
    share = coverage.unexplained / coverage.total if coverage.total else 0.0
    if share > limit:
        remedy = leave_out(dict.fromkeys(planned.name for _, planned, _ in left[:_SHOWN]))
        worst = ", ".join(f"{planned.name}.{parameter}" for _, planned, parameter in left[:3])
        yield Finding(
            "error",
            "coverage",
            f"{share:.1%} of the weights would be left out without a rule that says so (limit {limit:.1%}): "
            f"{worst}{', …' if len(left) > 3 else ''}. Quantize them; or "
            f"{remedy}; or raise max_unquantized",
        )


def _matrix_weights(model: nn.Module, modules: Iterable[ModulePlan]) -> Iterator[tuple[ModulePlan, str, int, int]]:
    """Plan, parameter name, elements and identity of every parameter of two or more axes."""
    for planned in modules:
        owner = model.get_submodule(planned.name)
        for parameter, shape in planned.shapes:
            value = owner._parameters[parameter]
            if value is not None and len(shape) >= 2:
                yield planned, parameter, value.numel(), id(value)


def _state(planned: ModulePlan, parameter: str) -> str:
    if planned.slot(parameter) is not None:
        return "quantized"
    return "explained" if planned.by_rule else "unexplained"

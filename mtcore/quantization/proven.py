"""Proven folds: a plan whose algorithm folds keeps only the folds under which the model's outputs stay the same."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from mtcore.nn import TensorQuantizer
from mtcore.plan import Finding, Plan
from mtcore.plugins import Registry
from mtcore.recipe.setting import AlgorithmStep
from mtcore.trace import TraceInputs, example_inputs, wrong_folds

LOG = logging.getLogger(__name__)


def with_proven_folds(
    plan: Plan,
    model: nn.Module,
    registry: Registry,
    inputs: object = None,
    algorithm: Sequence[AlgorithmStep] | None = None,
) -> Plan:
    """The plan without folds that change the model's outputs; each is a warning among its findings, and in the log.

    Nothing is run where no step folds, where the plan was proven before, or where the weights are on the meta
    device: such a plan is proven when it is applied to real ones.

    Args:
        inputs: of the trace; made as the trace makes them where None.
        algorithm: the steps to come; those of the plan where None.

    Raises:
        TraceError: there are folds to prove, but no inputs can be made.
    """
    steps = plan.algorithm if algorithm is None else algorithm
    known = [registry.algorithms[step.method] for step in steps if step.method in registry.algorithms]
    if plan.folds_proven or not plan.folds or not any(spec.folds for spec in known):
        return plan
    if any(parameter.is_meta for parameter in model.parameters()):
        return plan
    given = registry.example_inputs(model) if inputs is None else TraceInputs.of(inputs)
    with _unrounded(model):
        wrong = wrong_folds(model, plan.folds, example_inputs(model) if given is None else given)
    findings = [
        Finding("warning", group.name, "is not folded: scaling it changes the model's outputs") for group in wrong
    ]
    for finding in findings:
        LOG.warning("%s %s", finding.where, finding.message)
    LOG.info("proved %d of %d folds", len(plan.folds) - len(wrong), len(plan.folds))
    return replace(
        plan,
        folds=tuple(group for group in plan.folds if group not in wrong),
        folds_proven=True,
        findings=(*plan.findings, *findings),
    )


@contextmanager
def _unrounded(model: nn.Module) -> Iterator[None]:
    """Quantizers that are enabled round nothing meanwhile: rounding is no product, and hides what scales do."""
    quantizers = [module for module in model.modules() if isinstance(module, TensorQuantizer) and module.enabled]
    for quantizer in quantizers:
        quantizer.disable()
    try:
        yield
    finally:
        for quantizer in quantizers:
            quantizer.enable()

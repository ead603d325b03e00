"""Proving the folds of one unit on it alone: a fold inside a block leaves the block's outputs as they are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from pydantic import BaseModel
from torch import nn

from mtcore.calibration import AlgorithmSpec
from mtcore.calibration.quantizers import disabled
from mtcore.nn import TensorQuantizer
from mtcore.plan import Plan
from mtcore.trace import FoldGroup, TraceInputs, wrong_folds

LOG = logging.getLogger(__name__)


def with_proven_part(
    part: Plan,
    steps: Sequence[tuple[AlgorithmSpec, BaseModel]],
    module: nn.Module,
    local: Callable[[str], str],
    inputs: TraceInputs | None,
) -> Plan:
    """The part of a plan without folds that change what a module computes; each of these is logged.

    Args:
        module: holds all parameters of the part's folds, in memory; it is scaled in place and put back.
        local: from the name of a parameter in the plan to its name in the module.
        inputs: of one forward of the module; None where there are no data, and then no fold is used.
    """
    if not part.folds or not any(spec.folds for spec, _ in steps):
        return part
    if inputs is None:
        return replace(part, folds=(), folds_proven=True)
    names = {_renamed(fold, local): fold.name for fold in part.folds}
    with disabled([inner for inner in module.modules() if isinstance(inner, TensorQuantizer)]):
        wrong = {names[fold] for fold in wrong_folds(module, list(names), inputs)}
    for name in sorted(wrong):
        LOG.warning("%s is not folded: scaling it changes the model's outputs", name)
    return replace(part, folds=tuple(fold for fold in part.folds if fold.name not in wrong), folds_proven=True)


def _renamed(fold: FoldGroup, local: Callable[[str], str]) -> FoldGroup:
    up, down = (tuple(replace(side, parameter=local(side.parameter)) for side in s) for s in (fold.up, fold.down))
    return replace(fold, up=up, down=down)

"""The artifact that a plan would give, with shapes and dtypes and no values: every tensor is on the meta device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtcore.export.artifact import Artifact, LowRankBranch, QuantizedModule, SourceFiles
from mtcore.nn import LowRankLinear, QuantModule, QuantModuleSpec, TensorQuantizer, branch_dtype
from mtcore.numerics import QParams, qparams_from_amax
from mtcore.plan import ModulePlan, Plan
from mtcore.quantization.collect import unquantized_state
from mtcore.quantization.convert import convert


def rehearse_artifact(
    model: nn.Module, plan: Plan, specs: Mapping[str, QuantModuleSpec], source: SourceFiles | None = None
) -> Artifact:
    """What `collect_artifact` would give after calibration, on the meta device; no weight is read.

    Args:
        model: as the plan was made for it, with or without values; it is as it was when this returns or raises.
        plan: what would be done, without errors.
        specs: quantized layers by name.
        source: configuration and files that belong to the checkpoint.

    Raises:
        PlanError: the plan does not fit the model.
    """
    root, journal = convert(model, plan, specs)
    try:
        modules = {
            planned.name: _rehearsed(root.get_submodule(planned.name), planned) for planned in plan.quantized
        }
        kept = unquantized_state(root, plan).keys()
        tensors, tied = _distinct({n: t for n, t in root.state_dict(keep_vars=True).items() if n in kept})
    finally:
        journal.undo()
    return Artifact(plan, modules, tensors, tied, source or SourceFiles())


def _rehearsed(module: nn.Module, planned: ModulePlan) -> QuantizedModule:
    assert isinstance(module, QuantModule), "a planned module that was not converted"
    weights, activations = {}, {}
    for slot, quantizer in module.quantizers():
        if quantizer.is_weight:
            weights[slot] = quantizer.quantize(module.weight_of(slot).detach().to("meta"))
        elif quantizer.mode != "dynamic":
            activations[slot] = _empty_scales(quantizer)
    scale, branch = None, None
    if planned.pre_quant_scale and isinstance(module, nn.Linear):
        scale = torch.empty(module.in_features, device="meta")
    if isinstance(module, LowRankLinear):
        dtype = branch_dtype(module.weight.dtype)
        branch = LowRankBranch(*(part.detach().to("meta", dtype) for part in (module.lora_b, module.lora_a)))
    return QuantizedModule(planned, weights, activations, scale, branch)


def _empty_scales(quantizer: TensorQuantizer) -> QParams:
    outer = None if quantizer.format.outer is None else torch.empty((), device="meta")
    return qparams_from_amax(torch.empty((1, 1), device="meta"), quantizer.format, outer)


def _distinct(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each tensor once, on the meta device; {name: name of the first that is the same object}."""
    distinct: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, tensor in state.items():
        owner = first.setdefault(id(tensor), name)
        if owner == name:
            distinct[name] = tensor.detach().to("meta")
        else:
            tied[name] = owner
    return distinct, tied

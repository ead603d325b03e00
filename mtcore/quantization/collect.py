"""From a calibrated model to an artifact: codes, scales and the tensors that stay."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtcore.errors import StateError
from mtcore.export.artifact import Artifact, LowRankBranch, QuantizedModule, SourceFiles
from mtcore.nn import LowRankLinear, QuantizerState, QuantModule, branch_dtype
from mtcore.nn.sharded import whole
from mtcore.numerics import QParams, QTensor
from mtcore.plan import ModulePlan, Plan
from mtcore.quantization.tied import tied_tensors


def collect_artifact(model: nn.Module, plan: Plan, source: SourceFiles | None = None) -> Artifact:
    """Quantize the weights of a converted, calibrated model and take everything else as it is.

    Sharded parameters are gathered, for which all ranks must ask.

    Args:
        model: converted by this plan; not changed.
        plan: what was done.
        source: configuration and files that belong to the checkpoint.

    Raises:
        StateError: the model is not converted by this plan.
    """
    modules = {planned.name: collect_module(model, planned) for planned in plan.quantized}
    tensors, tied = tied_tensors(unquantized_state(model, plan))
    return Artifact(plan, modules, tensors, tied, source or SourceFiles())


def collect_module(model: nn.Module, planned: ModulePlan) -> QuantizedModule:
    """Codes and scales of one module of a converted, calibrated model.

    Raises:
        StateError: the module is not converted.
    """
    return _collect(_quant_module(model, planned), planned)


def unquantized_state(model: nn.Module, plan: Plan) -> dict[str, Tensor]:
    """The state dict of a converted model without the weights that get codes, and without quantizers.

    Raises:
        StateError: the model is not converted by this plan.
    """
    coded: set[str] = set()
    gone: tuple[str, ...] = ()
    for planned in plan.quantized:
        module, prefix = _quant_module(model, planned), _prefix(planned.name)
        coded |= {f"{prefix}{slot.partition('.')[0]}" for slot, q in module.quantizers() if q.is_weight}
        gone += tuple(f"{prefix}{attribute}." for attribute in module.slots.values())
        coded |= {f"{prefix}lora_a", f"{prefix}lora_b"} if planned.low_rank else set()
    return {n: whole(t) for n, t in model.state_dict().items() if n not in coded and not n.startswith(gone)}


def _quant_module(model: nn.Module, planned: ModulePlan) -> QuantModule:
    module = model.get_submodule(planned.name)
    if not isinstance(module, QuantModule):
        raise StateError(f"{planned.name}: planned as quantized, but the model holds a plain {planned.type}")
    return module


def _collect(module: QuantModule, planned: ModulePlan) -> QuantizedModule:
    weights: dict[str, QTensor] = {}
    activations: dict[str, QParams] = {}
    for slot, quantizer in module.quantizers():
        if quantizer.is_weight:
            weights[slot] = quantizer.quantize(whole(module.weight_of(slot)))
        elif (qparams := quantizer.calibrated_qparams()) is not None:
            activations[slot] = qparams
    return QuantizedModule(planned, weights, activations, _scale(module, planned), _branch(module))


def _scale(module: QuantModule, planned: ModulePlan) -> Tensor | None:
    """The scales that stay on the layer.

    Raises:
        StateError: the input is scaled though the plan does not say so, and no exporter was asked whether it can
            hold that.
    """
    attribute = module.slots.get("input")
    state = None if attribute is None else module.get_submodule(attribute)
    scale = state.pre_quant_scale if isinstance(state, QuantizerState) else None
    if scale is not None and not planned.pre_quant_scale:
        raise StateError(f"{planned.name}: its input is scaled (pre_quant_scale), but not by the plan")
    if scale is None and planned.pre_quant_scale and isinstance(module, nn.Linear):
        return torch.ones(module.in_features, device=module.weight.device)  # no step of the recipe gave it one
    return scale


def _branch(module: QuantModule) -> LowRankBranch | None:
    if not isinstance(module, LowRankLinear):
        return None
    dtype = branch_dtype(module.weight.dtype)
    return LowRankBranch(module.lora_b.detach().to(dtype), module.lora_a.detach().to(dtype))


def _prefix(module: str) -> str:
    return f"{module}." if module else ""

"""Artifacts made by hand with `numerics` alone, and the fake-quantized models that they stand for."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from mtcore.export import Artifact, QuantizedModule, SourceFiles
from mtcore.formats import TensorFormat
from mtcore.formats.catalog import FP8, FP8_ROW, INT8_ROW, INT8_TENSOR, NVFP4
from mtcore.numerics import dequantize, dynamic_qparams, fake_quantize, qparams_from_amax, quantize
from mtcore.plan import Coverage, ModulePlan, Plan, SlotPlan
from mtcore.recipe.setting import Mode

Choice = tuple[TensorFormat, TensorFormat | None, Mode]
"""Format of the weight, format of the input or None, mode of the input."""

CHOICES: dict[str, Choice] = {
    "fp8": (FP8, FP8, "static"),
    "fp8_dynamic": (FP8_ROW, FP8_ROW, "dynamic"),
    "fp8_weight_only": (FP8_ROW, None, "static"),
    "int8": (INT8_ROW, INT8_TENSOR, "static"),
    "int8_dynamic": (INT8_ROW, INT8_ROW, "dynamic"),
    "int8_weight_only": (INT8_ROW, None, "static"),
    "nvfp4": (NVFP4, NVFP4, "dynamic_blocks"),
    "nvfp4_weight_only": (NVFP4, None, "static"),
}


@pytest.fixture(scope="session")
def choices() -> Mapping[str, Choice]:
    return CHOICES


@pytest.fixture(scope="session")
def ids() -> Tensor:
    """int64 [4, 32]."""
    return torch.randint(0, 256, (4, 32), generator=torch.Generator().manual_seed(1))


Maker = Callable[..., Artifact]


@pytest.fixture(scope="session")
def make_artifact(tiny_llama: LlamaForCausalLM, ids: Tensor) -> Maker:
    """`make_artifact(choose, model=…)`: `choose` gives the Choice of a named layer, or None."""

    def make(choose: Callable[[str], Choice | None], model: nn.Module = tiny_llama) -> Artifact:
        linears = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
        amax = _input_amax(model, linears, ids)
        planned, coded = [], {}
        for name, module in model.named_modules():
            if not (own := dict(module.named_parameters(recurse=False))):
                continue
            choice = choose(name) if name in linears else None
            shapes = tuple((key, tuple(value.shape)) for key, value in own.items())
            spec = "nn.Linear" if name in linears else None
            plan = ModulePlan(name, type(module).__name__, spec, shapes, _slots(choice), "by hand")
            planned.append(plan)
            if choice is not None:
                coded[name] = _quantized(plan, own["weight"], choice, amax[name])
        weights = {f"{name}.weight" for name in coded}
        tensors, tied = _split_tied({k: v for k, v in model.state_dict().items() if k not in weights})
        config = json.loads(model.config.to_json_string())
        config["architectures"] = [type(model).__name__]
        plan = Plan("by hand", tuple(planned), (), (), (), Coverage(1, 1, 0))
        return Artifact(plan, coded, tensors, tied, SourceFiles(config))

    return make


@pytest.fixture(scope="session")
def artifacts(make_artifact: Maker) -> Mapping[str, Artifact]:
    """The tiny Llama in every choice: all linear layers but the last."""
    return {
        name: make_artifact(lambda module, choice=choice: None if module == "lm_head" else choice)
        for name, choice in CHOICES.items()
    }


@pytest.fixture(scope="session")
def fake_quantized() -> Callable[[nn.Module, Artifact], nn.Module]:
    """A copy of a model whose linear layers compute with the artifact's weights and quantize their inputs."""

    def build(model: nn.Module, artifact: Artifact, weight_dtype: torch.dtype | None = None) -> nn.Module:
        twin = copy.deepcopy(model)
        for name, module in artifact.modules.items():
            linear = twin.get_submodule(name)
            weight = dequantize(module.weights["weight"], weight_dtype)
            linear.weight.data = weight.to(linear.weight.dtype)
            if module.plan.slot("input") is not None:
                linear.register_forward_pre_hook(_input_quantizer(module))
        return twin

    return build


def _input_quantizer(module: QuantizedModule) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor]]:
    slot = module.plan.slot("input")
    assert slot is not None

    def hook(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        rows = inputs[0].flatten(0, -2)
        match slot.mode:
            case "static":
                qparams = module.activations["input"]
            case "dynamic":
                qparams = dynamic_qparams(rows, slot.format)
            case "dynamic_blocks":
                scale_2 = module.activations["input"].scale_2
                qparams = dynamic_qparams(rows, slot.format, scale_2 * slot.format.outer_target)
        return (fake_quantize(rows, qparams).view(inputs[0].shape),)

    return hook


def _input_amax(model: nn.Module, linears: Mapping[str, nn.Module], ids: Tensor) -> dict[str, Tensor]:
    amax: dict[str, Tensor] = {}

    def note(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda _, inputs: amax.__setitem__(name, inputs[0].abs().amax().float())

    handles = [module.register_forward_pre_hook(note(name)) for name, module in linears.items()]
    try:
        with torch.no_grad():
            model(ids)
    finally:
        for handle in handles:
            handle.remove()
    return amax


def _slots(choice: Choice | None) -> tuple[SlotPlan, ...]:
    if choice is None:
        return ()
    weight, given, mode = choice
    slots = [SlotPlan("weight", weight, "static", "rule #1")]
    if given is not None:
        slots.append(SlotPlan("input", given, mode, "rule #2"))
    return tuple(slots)


def _quantized(plan: ModulePlan, weight: Tensor, choice: Choice, amax: Tensor) -> QuantizedModule:
    fmt, given, mode = choice
    codes = quantize(weight.detach(), dynamic_qparams(weight.detach(), fmt))
    calibrated = given is not None and mode != "dynamic"
    activations = {"input": qparams_from_amax(amax.reshape(1, 1), given, amax)} if calibrated else {}
    return QuantizedModule(plan, {"weight": codes}, activations)


def _split_tied(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    kept: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    owner: dict[int, str] = {}
    for name, tensor in state.items():
        if tensor.data_ptr() in owner:
            tied[name] = owner[tensor.data_ptr()]
        else:
            owner[tensor.data_ptr()] = name
            kept[name] = tensor
    return kept, tied

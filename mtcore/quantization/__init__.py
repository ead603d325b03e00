"""Quantize a model in memory: plan, convert, calibrate, undo."""

from mtcore.nn import QuantLinear, QuantModule, TensorQuantizer
from mtcore.quantization.api import (
    apply_plan,
    calibrate,
    load,
    plan_model,
    quantize,
    save,
    to_artifact,
    trace_model,
    undo,
)
from mtcore.quantization.attached import is_quantized, quantized_of, summary_of
from mtcore.quantization.compress import compress, packed_kernels
from mtcore.quantization.convert import convert
from mtcore.quantization.journal import Journal
from mtcore.quantization.registries import ModeRegistry, ModuleRegistry, QuantizeModeRegistry, QuantModuleRegistry
from mtcore.quantization.search import ModelSearch, search_model
from mtcore.recipe.setting import QuantizeConfig

__all__ = [
    "Journal",
    "ModeRegistry",
    "ModelSearch",
    "ModuleRegistry",
    "QuantLinear",
    "QuantModule",
    "QuantModuleRegistry",
    "QuantizeConfig",
    "QuantizeModeRegistry",
    "TensorQuantizer",
    "apply_plan",
    "calibrate",
    "compress",
    "convert",
    "is_quantized",
    "load",
    "packed_kernels",
    "plan_model",
    "quantize",
    "quantized_of",
    "save",
    "search_model",
    "summary_of",
    "to_artifact",
    "trace_model",
    "undo",
]

"""What a quantized model knows about itself: its plan and the journal that undoes its conversion."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mtcore.backends import KernelChoice
from mtcore.calibration import CalibrationSummary
from mtcore.errors import StateError
from mtcore.nn import PackedLinear
from mtcore.plan import Plan
from mtcore.quantization.journal import Journal

_ATTRIBUTE = "_mtcore_quantized"
_LOAD = "load the original model to quantize it"


@dataclass(frozen=True)
class Quantized:
    """Kept on the root of a quantized model.

    Attributes:
        plan: what was done.
        journal: undoes it.
        kernels: what computes it on the device where the model was, each use once.
        summary: what rounding costs each layer, where that was asked for.
    """

    plan: Plan
    journal: Journal
    kernels: tuple[KernelChoice, ...] = ()
    summary: CalibrationSummary | None = None


def attach(model: nn.Module, quantized: Quantized) -> None:
    """Remember on the model what was done to it."""
    object.__setattr__(model, _ATTRIBUTE, quantized)


def detach(model: nn.Module) -> None:
    """Forget it."""
    if is_quantized(model):
        object.__delattr__(model, _ATTRIBUTE)


def is_quantized(model: nn.Module) -> bool:
    """Whether `quantize` made this model."""
    return _ATTRIBUTE in vars(model)


def is_compressed(model: nn.Module) -> bool:
    """Whether `compress` packed layers of this model."""
    return any(isinstance(module, PackedLinear) for module in model.modules())


def refuse_quantized(model: nn.Module) -> None:
    """Nothing, for a model whose weights are as they were trained.

    Raises:
        StateError: it is quantized or compressed.
    """
    if is_compressed(model):
        raise StateError(f"this {type(model).__name__} is compressed: its float weights are gone; {_LOAD}")
    if is_quantized(model):
        raise StateError(
            f"this {type(model).__name__} is quantized already: call undo(model) first, or calibrate(model, …) to "
            "calibrate it anew"
        )


def quantized_of(model: nn.Module) -> Quantized:
    """Plan and journal of a quantized model.

    Raises:
        StateError: the model was not quantized by `mtcore.quantization.quantize`, or is compressed.
    """
    if not is_quantized(model) and is_compressed(model):
        raise StateError(
            f"this {type(model).__name__} is compressed: it can no longer be calibrated, undone or exported. "
            f"{_LOAD.capitalize()}"
        )
    if not is_quantized(model):
        raise StateError(
            f"this {type(model).__name__} was not quantized by mtcore: call quantize(model, config) first"
        )
    found: Quantized = vars(model)[_ATTRIBUTE]
    return found


def summary_of(model: nn.Module) -> CalibrationSummary:
    """What rounding costs each layer of a quantized model: the report that `mtopt quantize` shows.

    Raises:
        StateError: the model was not quantized, or without `summary=True`.

    Example:
        >>> from torch import nn, randn
        >>> from mtcore.quantization import quantize
        >>> recipe = {"quant_cfg": {"*weight_quantizer": {"num_bits": 8}}, "algorithm": "max"}
        >>> model = quantize(nn.Sequential(nn.Linear(32, 4)), recipe, [randn(8, 32)], summary=True)
        >>> [layer.name for layer in summary_of(model).worst()]
        ['0']
    """
    summary = quantized_of(model).summary
    if summary is None:
        raise StateError("this model has no summary: quantize it with summary=True")
    return summary

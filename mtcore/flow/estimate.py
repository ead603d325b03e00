"""What a run will need: memory, and time on this machine, from the plan and two short measurements."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from mtcore.flow.data_options import DataOptions
from mtcore.formats import TensorFormat
from mtcore.numerics import dynamic_qparams, quantize
from mtcore.plan import Plan

_MATRIX = 512  # rows and columns of the measured product: large enough for the rate, 10 ms on one core
_SAMPLE = (64, 4096)  # elements whose rounding is measured


@dataclass(frozen=True)
class Estimate:
    """What one run on this machine will need, the model whole in memory.

    Attributes:
        source_bytes: of all parameters as they are stored.
        memory_bytes: weights as they are computed with (fp32 on a CPU where they have 16 bits), the codes of the
            output beside them, and the activations of one batch: its logits twice, and eight values a layer and
            hidden feature.
        calibrate_seconds: one pass over the data: 2 operations for each matrix element and token, embeddings left
            out, as if every token went through every expert.
        quantize_seconds: rounding every quantized weight once.
        tokens: of calibration data.
        more: steps of the recipe that search, and so pass over the data or the weights more often; their time is
            not counted.
    """

    source_bytes: int
    memory_bytes: int
    calibrate_seconds: float
    quantize_seconds: float
    tokens: int
    more: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return self.calibrate_seconds + self.quantize_seconds

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": self.seconds}


def estimate(model: nn.Module, plan: Plan, output_bytes: int, data: DataOptions | None = None) -> Estimate:
    """Estimate a run of `quantize` on this machine's CPU.

    Args:
        model: with or without weights.
        plan: what would be done.
        output_bytes: size of the weights that would be written.
        data: how much calibration data there will be.
    """
    data = data or DataOptions()
    parameters = list(model.parameters())
    stored = sum(parameter.nbytes for parameter in parameters)
    held = sum(parameter.numel() * max(parameter.element_size(), 4) for parameter in parameters)
    matrices = sum(
        torch.Size(shape).numel()
        for module in plan
        for _, shape in module.shapes
        if len(shape) > 1 and "Embedding" not in module.type
    )
    static = any(
        slot.scales_from_data for module in plan.quantized for slot in module.slots if slot.slot == "input"
    )
    searching = tuple(step.method for step in plan.algorithm if step.method != "max")
    tokens = data.samples * data.length if static or searching else 0
    rate = _product_rate() if tokens else 1.0
    rounding = sum(count * _rounding_seconds(fmt) for fmt, count in _quantized_elements(plan).items())
    activations = _activation_bytes(model, data.batch_size * data.length) if tokens else 0
    return Estimate(
        stored, held + output_bytes + activations, 2 * matrices * tokens / rate, rounding, tokens, searching
    )


def _quantized_elements(plan: Plan) -> dict[TensorFormat, int]:
    counts: dict[TensorFormat, int] = {}
    for module in plan.quantized:
        shapes = dict(module.shapes)
        for slot in module.slots:
            if slot.slot in shapes:
                counts[slot.format] = counts.get(slot.format, 0) + torch.Size(shapes[slot.slot]).numel()
    return counts


def _product_rate() -> float:
    """Floating-point operations a second of an fp32 matrix product on this CPU, with the threads that torch has."""
    a = torch.ones(_MATRIX, _MATRIX)
    a @ a  # the first one sets the library up
    start = time.perf_counter()
    for _ in range(3):
        a @ a
    return 3 * 2 * _MATRIX**3 / (time.perf_counter() - start)


def _rounding_seconds(fmt: TensorFormat) -> float:
    """Seconds for one element of a weight."""
    x = torch.ones(_SAMPLE)
    quantize(x, dynamic_qparams(x, fmt))
    start = time.perf_counter()
    quantize(x, dynamic_qparams(x, fmt))
    return (time.perf_counter() - start) / x.numel()


def _activation_bytes(model: nn.Module, tokens: int) -> int:
    """A rough share: logits twice in fp32, and eight values a token and feature of the widest embedding."""
    widths = [tuple(parameter.shape) for parameter in model.parameters() if parameter.dim() == 2]
    vocabulary, hidden = max(widths, default=(0, 0), key=lambda shape: shape[0])
    return tokens * 4 * (2 * vocabulary + 8 * hidden)

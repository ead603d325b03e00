"""The summary of a calibration: what rounding costs each layer, the worst of them, and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtcore.calibration.edits import ParameterEdits
from mtcore.calibration.experts import StarvedExpert
from mtcore.calibration.quantizers import Quantizers, linear_layers, weight_place, weight_tensor
from mtcore.calibration.statistics import Needs, Site, Statistics
from mtcore.formats import WHOLE
from mtcore.nn import LowRankLinear, QuantModule, TensorQuantizer
from mtcore.nn.sharded import whole

SAMPLE = Needs(sample=64)
"""Rows of the inputs on which a layer's outputs are compared."""

_AT_ONCE = 2**22
"""Elements of a weight that are compared together: 16 MiB of fp32."""


@dataclass(frozen=True)
class LayerSummary:
    """What rounding costs one linear layer, or another weight, compared with itself before rounding.

    Attributes:
        name: of the linear layer; of another weight (stacked experts, a convolution), its own.
        weight_sqnr: 10 log₁₀ of the weight's power over that of its rounding error, in dB; infinite without error.
        output_error: |y' - y| / |y| over a sample of inputs, y' with rounded weights and inputs; None without data.
        weight_error: the same with rounded weights alone.
        clipped: share of the sample beyond the calibrated range of the input; None where that is not fixed.
        linear: whether it is a linear layer; of other weights only `weight_sqnr` is known, over all experts of a
            stack.
        stacked: whether it is a stack of experts.
    """

    name: str
    weight_sqnr: float
    output_error: float | None = None
    weight_error: float | None = None
    clipped: float | None = None
    linear: bool = True
    stacked: bool = False

    @property
    def badness(self) -> float:
        """By which layers are ordered: the output's error, or where that is unknown the weight's."""
        return 10 ** (-self.weight_sqnr / 20) if self.output_error is None else self.output_error

    @property
    def advice(self) -> str:
        """What would help most, in one line."""
        if not math.isfinite(self.badness):
            return "its outputs are not finite: leave it out, and check the weights"
        if self.clipped is not None and self.clipped > 0.01:
            return "much of its input is cut off: calibrate on more data, with max, or with dynamic activations"
        if self.badness < 0.05:
            return "fine as it is"
        if self.output_error is not None and self.output_error > 2 * (self.weight_error or 0.0):
            return "its input costs most: smoothquant, awq, dynamic activations, or 16-bit activations here"
        better = "mse, awq or gptq" if self.linear else "mse or gptq" if self.stacked else "mse"
        return f"its weight costs most: {better}, smaller blocks, or more bits here"


@dataclass(frozen=True)
class CalibrationSummary:
    """All quantized linear layers in the order of the plan, then other weights; the experts that data hardly
    reached; and a line or so of each step on what it came to."""

    layers: tuple[LayerSummary, ...]
    starved: tuple[StarvedExpert, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def joined(cls, parts: Iterable[CalibrationSummary]) -> CalibrationSummary:
        """The summary of several parts of a model, in their order."""
        every = tuple(parts)
        layers = tuple(layer for part in every for layer in part.layers)
        notes = dict.fromkeys(note for part in every for note in part.notes)
        return cls(layers, tuple(expert for part in every for expert in part.starved), tuple(notes))

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> CalibrationSummary:
        """What `to_json` gave."""
        layers = tuple(LayerSummary(**layer) for layer in found["layers"])
        starved = tuple(StarvedExpert(**expert) for expert in found["starved"])
        return cls(layers, starved, tuple(found["notes"]))

    def worst(self, count: int = 10) -> tuple[LayerSummary, ...]:
        """The layers that lose most, worst first."""
        order = sorted(
            self.layers, key=lambda layer: -layer.badness if not math.isnan(layer.badness) else -math.inf
        )
        return tuple(order[:count])

    def to_json(self) -> dict[str, Any]:
        """Plain values: every layer, and the names and advice of the worst ten."""
        return {
            "layers": [asdict(layer) for layer in self.layers],
            "notes": list(self.notes),
            "starved": [asdict(expert) for expert in self.starved],
            "worst": [{"name": layer.name, "advice": layer.advice} for layer in self.worst()],
        }


def _goodness(layer: LayerSummary) -> float:
    """Least for the worst layers; a NaN is the worst of all."""
    return -math.inf if math.isnan(layer.badness) else -layer.badness


def summary_needs(model: nn.Module, quantizers: Quantizers) -> dict[Site, Needs]:
    """What a summary wants to know, where data run anyway."""
    return {(name, "input"): SAMPLE for name in linear_layers(model, quantizers)}


@torch.no_grad()
def summarize(
    model: nn.Module, quantizers: Quantizers, edits: ParameterEdits, statistics: Statistics
) -> CalibrationSummary:
    """Compare every layer of a calibrated model with itself before rounding; of those that are not linear, weights.

    Args:
        edits: know the weights before an algorithm rounded them.
        statistics: samples of the inputs, where known.
    """
    others = _other_weights(model, quantizers, edits)
    return CalibrationSummary((*_layers(model, quantizers, edits, statistics), *others))


def _other_weights(model: nn.Module, quantizers: Quantizers, edits: ParameterEdits) -> Iterator[LayerSummary]:
    """Weights of layers that are not linear, all experts of a stack together."""
    linear = linear_layers(model, quantizers)
    sums: dict[str, tuple[float, float, bool]] = {}
    for (module, slot), quantizer in quantizers.items():
        if not quantizer.is_weight or module in linear:
            continue
        weight = weight_tensor(model, (module, slot)).detach()
        name = f"{module}.{slot.partition('.')[0]}"
        noise, power, _ = sums.get(name, (0.0, 0.0, False))
        parameter, part = weight_place(model, (module, slot))
        before = edits.before_rounding(parameter).detach()
        exact = whole(before if part is None else before[part]).float()
        noise += float((quantizer(weight).float() - exact).square().sum())
        sums[name] = noise, power + float(exact.square().sum()), part is not None
    for name, (noise, power, stacked) in sums.items():
        yield LayerSummary(name, _decibels(power, noise), linear=False, stacked=stacked)


def _decibels(power: float, noise: float) -> float:
    return math.inf if noise == 0 else 10 * math.log10(power / noise) if power else -math.inf


def _layers(
    model: nn.Module, quantizers: Quantizers, edits: ParameterEdits, statistics: Statistics
) -> Iterator[LayerSummary]:
    for name, layer in linear_layers(model, quantizers).items():
        parameter = layer.get_parameter("weight")
        quantizer = quantizers[name, "weight"]
        exact = quantizer.unrounded(edits.before_rounding(parameter).detach())
        rounded = quantizer(parameter.detach())
        branch = layer.lora_b.float() @ layer.lora_a.float() if isinstance(layer, LowRankLinear) else None
        whole = exact.float() if branch is None else exact.float() + branch
        sqnr = _decibels(float(whole.norm()) ** 2, _squared_distance(rounded, exact))
        site = (name, "input")
        if site not in statistics or statistics[site].sample is None:
            yield LayerSummary(name, sqnr)
            continue
        yield _with_outputs(name, sqnr, layer, (whole, exact, rounded), statistics[site].rows(SAMPLE.sample))


def _squared_distance(one: Tensor, other: Tensor) -> float:
    """Part by part: a third tensor of a weight's size is what a run block by block has no room for."""
    rows = max(1, _AT_ONCE // max(1, one[:1].numel()))
    parts = zip(torch.split(one, rows), torch.split(other, rows), strict=True)
    norms = torch.stack([(mine.float() - theirs.float()).norm() for mine, theirs in parts])
    return math.fsum(norm**2 for norm in norms.tolist())


def _with_outputs(
    name: str, sqnr: float, layer: QuantModule, weights: tuple[Tensor, Tensor, Tensor], sample: Tensor
) -> LayerSummary:
    """`weights`: the whole one; the part of it that is rounded, all without a branch; that part rounded."""
    whole, exact, rounded = weights
    quantizer = layer.get_submodule(layer.slots["input"])
    x = sample.to(exact.dtype)
    plain, coded, clipped = x, x, None
    if isinstance(quantizer, TensorQuantizer):
        x = quantizer.as_given(x).to(x.dtype)  # the sample is of what is rounded
        plain, coded = quantizer.unrounded(x), quantizer(x)
        clipped = _clipped(quantizer, x)
    size = float((plain.float() @ whole.T).norm())
    wanted = plain.float() @ exact.float().T
    errors = [(plain.float() @ rounded.float().T - wanted), (coded.float() @ rounded.float().T - wanted)]
    weight_error, output_error = (float(error.norm()) / size if size else 0.0 for error in errors)
    return LayerSummary(name, sqnr, output_error, weight_error, clipped)


def _clipped(quantizer: TensorQuantizer, x: Tensor) -> float | None:
    matrix = quantizer.matrix(x).float().abs()
    if quantizer.outer_amax is not None:
        return float((matrix > quantizer.outer_amax).float().mean())
    if quantizer.amax is None or quantizer.format.block.rows != WHOLE:
        return None
    _, wide = quantizer.format.block.extents(*matrix.shape)
    limits = quantizer.amax.repeat_interleave(wide, dim=1)[:, : matrix.shape[1]]
    return float((matrix > limits).float().mean())

"""Rules on the values of scales: finite, positive, of a size that can be, and not the reciprocal of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from mtcore.lint import EVERYONE, Checkpoint, Hit, RuleSpec, ScaleFacts, Severity, TensorInfo
from mtopt_hf.lint.names import SCALES, is_norm
from mtopt_hf.lint.view import Module, view_of

_SMALLEST, _LARGEST = 2.0**-60, 2.0**30
"""Weights and activations of trained models are between 1e-12 and 1e6; scales beyond these bounds are accidents."""

_TINY = 2**20  # bytes of an unquantized tensor that is looked at


def _scales(checkpoint: Checkpoint) -> Iterator[tuple[Module, str, TensorInfo, ScaleFacts]]:
    if not checkpoint.has_values:
        return
    for module in view_of(checkpoint).modules.values():
        for local, tensor in module.parts.items():
            if local in SCALES and (facts := checkpoint.values.facts(tensor)) is not None and facts.count:
                yield module, local, tensor, facts


def _rule(found: Callable[[str, TensorInfo, ScaleFacts], str], todo: str) -> Callable[[Checkpoint], Iterator[Hit]]:
    def check(checkpoint: Checkpoint) -> Iterator[Hit]:
        for _, local, tensor, facts in _scales(checkpoint):
            why = found(local, tensor, facts)
            if why:
                part = "" if facts.complete else f" (in the {facts.count} of {tensor.count} values that were read)"
                yield Hit(tensor.name, why + part, todo)

    return check


def _nan(local: str, tensor: TensorInfo, facts: ScaleFacts) -> str:
    return f"{facts.nans} values are NaN, and so is every output of the layer" if facts.nans else ""


def _infinite(local: str, tensor: TensorInfo, facts: ScaleFacts) -> str:
    return f"{facts.infinities} values are infinite" if facts.infinities else ""


def _zero(local: str, tensor: TensorInfo, facts: ScaleFacts) -> str:
    if not facts.zeros or tensor.dtype == "U8":
        return ""
    if tensor.count > 1 and facts.zeros < facts.count:
        return ""  # a block, row or channel that is zero in all its weights; `scale-zero-block` speaks of it
    return "it is zero, and so is all that is multiplied by it; a division by it gives infinity"


def _zero_block(local: str, tensor: TensorInfo, facts: ScaleFacts) -> str:
    some = facts.zeros and tensor.count > 1 and facts.zeros < facts.count and tensor.dtype != "U8"
    return f"{facts.zeros} of its values are zero: all weights under them count as zero" if some else ""


def _negative(local: str, tensor: TensorInfo, facts: ScaleFacts) -> str:
    return f"{facts.negatives} values are negative, down to {facts.smallest:.3g}" if facts.negatives else ""


def _absurd(local: str, tensor: TensorInfo, facts: ScaleFacts) -> str:
    if facts.largest > _LARGEST:
        return f"its largest value is {facts.largest:.3g}"
    scalar = tensor.count == 1 and 0 < facts.largest < _SMALLEST
    return f"its value is {facts.largest:.3g}" if scalar else ""


def sentinel(checkpoint: Checkpoint) -> Iterator[Hit]:
    """An input scale of exactly 1 in a layer whose weight scale is not: nobody calibrated it."""
    for _, local, tensor, facts in _scales(checkpoint):
        if local in ("input_scale", "input_global_scale") and tensor.count == 1 and facts.smallest == 1.0:
            why = "it is exactly 1, the value before calibration: the layer probably saw no data"
            yield Hit(tensor.name, why, "calibrate with data that reach the layer")


def reciprocal(checkpoint: Checkpoint) -> Iterator[Hit]:
    """`weight_scale_2` is amax/2688, of weights far below 2688; `weight_global_scale` is 2688/amax."""
    for _, local, tensor, facts in _scales(checkpoint):
        if tensor.count != 1:
            continue
        if local == "weight_scale_2" and facts.largest > 1.0:
            why = f"{facts.largest:.4g} as a multiplier means weights of thousands; a divisor was stored"
            yield Hit(tensor.name, why, "store the reciprocal")
        if local == "weight_global_scale" and 0 < facts.largest < 1.0:
            why = f"{facts.largest:.4g} as a divisor means weights of thousands; a multiplier was stored"
            yield Hit(tensor.name, why, "store the reciprocal")


def block_scale_top(checkpoint: Checkpoint) -> Iterator[Hit]:
    """The largest block scale of an NVFP4 weight is 448 (or 256), because the outer scale was made for it."""
    for module, local, tensor, facts in _scales(checkpoint):
        nvfp4 = local == "weight_scale" and tensor.dtype == "F8_E4M3" and facts.complete
        if nvfp4 and module.scheme is not None and 0 < facts.largest < 8.0 and tensor.count > 1:
            why = f"its largest value is {facts.largest:.3g} of 448: the outer scale does not belong to this tensor"
            yield Hit(tensor.name, why, "compute both scales from one amax")


def norm_values(checkpoint: Checkpoint) -> Iterator[Hit]:
    if not checkpoint.has_values:
        return
    for name, tensor in checkpoint.tensors.items():
        module, _, local = name.rpartition(".")
        small = len(tensor.shape) == 1 and tensor.nbytes <= _TINY
        if small and (local == "bias" or is_norm(module)) and tensor.dtype in ("F32", "BF16", "F16"):
            facts = checkpoint.values.facts(tensor)
            if facts is not None and (facts.nans or facts.infinities):
                why = f"{facts.nans + facts.infinities} values are not finite, and so is every output of the model"
                yield Hit(name, why, "copy it from the original model")


def unreadable(checkpoint: Checkpoint) -> Iterator[Hit]:
    for module in view_of(checkpoint).quantized:
        for local, tensor in module.parts.items():
            if local in SCALES and tensor.count == 0:
                yield Hit(tensor.name, "it has no values", "write the scale")


_ALL: Mapping[str, Severity] = {EVERYONE: "error"}
RULES = (
    RuleSpec("scale-nan", "no scale is NaN", _ALL, _rule(_nan, "calibrate again; look for NaN in weights or data")),
    RuleSpec("scale-infinite", "no scale is infinite", _ALL, _rule(_infinite, "calibrate again")),
    RuleSpec(
        "scale-zero", "no scale of a whole tensor is zero", _ALL, _rule(_zero, "calibrate with data that reach it")
    ),
    RuleSpec(
        "scale-zero-block", "blocks of zeros are known", {EVERYONE: "note"}, _rule(_zero_block, "nothing, if so")
    ),
    RuleSpec("scale-negative", "no scale is negative", _ALL, _rule(_negative, "write magnitudes")),
    RuleSpec(
        "scale-absurd", "scales have a size that can be", {EVERYONE: "warning"}, _rule(_absurd, "calibrate again")
    ),
    RuleSpec("scale-empty", "a scale has values", _ALL, unreadable),
    RuleSpec("scale-uncalibrated", "input scales come from data", {EVERYONE: "warning"}, sentinel),
    RuleSpec("scale-reciprocal", "outer scales are not the reciprocal of what is read", _ALL, reciprocal),
    RuleSpec(
        "scale-pair", "block scales and the outer scale belong together", {EVERYONE: "warning"}, block_scale_top
    ),
    RuleSpec("small-tensor-nan", "norms and biases are finite", _ALL, norm_values),
)

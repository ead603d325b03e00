"""Rules on layers that servers join: one format, one outer scale, one input scale."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mtcore.lint import Checkpoint, Hit, RuleSpec
from mtopt_hf.lint.names import expert_of
from mtopt_hf.lint.view import Module, view_of

_OUTER = ("weight_scale_2", "weight_global_scale")
_INPUT = ("input_scale", "input_global_scale")


def _unequal(checkpoint: Checkpoint, locals_: tuple[str, ...]) -> Iterator[tuple[tuple[Module, ...], str, str]]:
    if not checkpoint.has_values:
        return
    for members in view_of(checkpoint).fused:
        for local in locals_:
            tensors = [member.parts[local] for member in members if local in member.parts]
            values = [checkpoint.values.small(tensor) for tensor in tensors if tensor.count == 1]
            found = [float(value[0]) for value in values if value is not None]
            if len(found) == len(members) and len(set(found)) > 1 and not any(map(np.isnan, found)):
                shown = ", ".join(
                    f"{member.name.rpartition('.')[2]} {value:.4g}"
                    for member, value in zip(members, found, strict=True)
                )
                yield members, local, shown


def _parent(members: tuple[Module, ...]) -> str:
    return members[0].name.rpartition(".")[0]


def outer(checkpoint: Checkpoint) -> Iterator[Hit]:
    for members, local, shown in _unequal(checkpoint, _OUTER):
        if expert_of(members[0].name) is None:
            why = f"{local} differs between layers that servers join ({shown})"
            then = "vLLM and SGLang take one of them for all, TensorRT-LLM refuses"
            yield Hit(_parent(members), f"{why}: {then}", "quantize them with one amax")


def experts(checkpoint: Checkpoint) -> Iterator[Hit]:
    for members, local, shown in _unequal(checkpoint, _OUTER):
        if expert_of(members[0].name) is not None:
            why = f"{local} differs between the halves of an expert ({shown}): servers use the first one's for both"
            yield Hit(_parent(members), why, "quantize gate and up of an expert with one amax")


def inputs(checkpoint: Checkpoint) -> Iterator[Hit]:
    for members, local, shown in _unequal(checkpoint, _INPUT):
        why = f"{local} differs between layers that read one value ({shown}): servers take the largest for all"
        yield Hit(_parent(members), why, "calibrate them together")


def fp8(checkpoint: Checkpoint) -> Iterator[Hit]:
    for members, _, shown in _unequal(checkpoint, ("weight_scale",)):
        kinds = {member.scheme.kind for member in members if member.scheme is not None}
        if kinds <= {"FP8", "fp8"}:
            why = f"weight_scale differs between layers that servers join ({shown})"
            yield Hit(
                _parent(members),
                f"{why}: they are rounded again to the largest",
                "nothing, or quantize them with one amax",
            )


def formats(checkpoint: Checkpoint) -> Iterator[Hit]:
    for members in view_of(checkpoint).fused:
        quantized = [member for member in members if member.stored_quantized and member.scheme is not None]
        kinds = dict.fromkeys((m.scheme.kind, m.scheme.bits, m.scheme.group) for m in quantized if m.scheme)
        if len(kinds) > 1:
            shown = ", ".join(f"{m.name.rpartition('.')[2]} {m.scheme.kind}" for m in quantized if m.scheme)
            why = f"layers that servers join have several formats ({shown}); they raise"
            yield Hit(_parent(members), why, "give them one format")


_SERVERS = ("vllm", "trtllm", "sglang")
RULES = (
    RuleSpec(
        "fused-outer-scale",
        "layers that a server joins have one outer scale",
        {"vllm": "warning", "sglang": "warning", "trtllm": "error"},
        outer,
    ),
    RuleSpec(
        "expert-outer-scale",
        "gate and up of an expert have one outer scale",
        {"vllm": "warning", "sglang": "warning", "trtllm": "error"},
        experts,
    ),
    RuleSpec(
        "fused-input-scale",
        "layers that read one value have one input scale",
        dict.fromkeys(_SERVERS, "warning"),
        inputs,
    ),
    RuleSpec("fused-fp8-scale", "joined FP8 layers have one weight scale", dict.fromkeys(_SERVERS, "note"), fp8),
    RuleSpec(
        "fused-format", "layers that a server joins have one format", dict.fromkeys(_SERVERS, "error"), formats
    ),
)

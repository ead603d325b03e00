"""What a user asked for, slot by slot: settings, rules and the whole configuration. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mtcore.formats import PER_TENSOR, WHOLE, TensorFormat

Mode = Literal["static", "dynamic", "dynamic_blocks"]
"""When scales are worked out: `static`, all beforehand; `dynamic`, all from the tensor at run time;
`dynamic_blocks`, the block scales at run time under a fixed outer scale (two-level formats only)."""

SLOTS = ("weight", "input", "output", "q", "k", "v")
"""The places of a module where a quantizer can sit. A module's quantizer is named `<slot>_quantizer`."""


def default_mode(fmt: TensorFormat, *, is_weight: bool) -> Mode:
    """The mode that a slot has when a rule names none: weights are static; an activation is as static as it can be.

    One scale a tensor can be calibrated; scales that follow tokens cannot, for the tokens change.
    """
    if is_weight:
        return "static"
    if fmt.outer is not None:
        return "dynamic_blocks"
    return "static" if fmt.block == PER_TENSOR else "dynamic"


def mode_problem(fmt: TensorFormat, mode: Mode, *, is_weight: bool) -> str | None:
    """Why `mode` is impossible for this format and slot, or None if it is possible."""
    if mode == "dynamic_blocks" and fmt.outer is None:
        return f"mode dynamic_blocks needs a format with an outer scale; {fmt.name} has none"
    if mode == "static" and not is_weight and fmt.outer is None and fmt.block.rows != WHOLE:
        return f"mode static is impossible for an activation in {fmt.name}: its scales follow tokens ({fmt.block})"
    return None


@dataclass(frozen=True)
class SlotSetting:
    """A format and when its scales are worked out; `options` are for algorithms, untouched by the core."""

    format: TensorFormat
    mode: Mode
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{self.format.name} ({self.mode})"


@dataclass(frozen=True)
class SlotRule:
    """One rule on quantizers; in a list of rules, later ones win.

    Attributes:
        pattern: fnmatch glob on the full quantizer name, `<module>.<slot>_quantizer`.
        module_type: registry key of the module that holds the quantizer ("nn.Linear"), or None for any.
        setting: what matching slots get; None leaves the format as earlier rules set it.
        enable: whether matching slots quantize.
        origin: where the rule stands, for messages: "rule #2 of recipe w4a4.yaml".
    """

    pattern: str
    setting: SlotSetting | None
    enable: bool
    origin: str
    module_type: str | None = None


@dataclass(frozen=True)
class AlgorithmStep:
    """One calibration algorithm by name, with its options as written; the algorithm validates them."""

    method: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class QuantizeConfig:
    """A whole request, validated and never changed afterwards.

    Attributes:
        name: of the recipe, for messages.
        rules: in order; later ones win.
        algorithm: steps in order; empty means that nothing is calibrated.
        max_unquantized: the share of matrix-weight elements, in [0, 1], that may stay unquantized without a rule
            that says so; a plan above it is an error (the coverage guard).
        summary: one line for listings.
    """

    name: str
    rules: tuple[SlotRule, ...]
    algorithm: tuple[AlgorithmStep, ...] = (AlgorithmStep("max"),)
    max_unquantized: float = 0.1
    summary: str = ""

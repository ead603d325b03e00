"""What a user asked for, slot by slot: settings, rules and the whole configuration. Values only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from mtcore.formats import PER_TENSOR, WHOLE, TensorFormat

Mode = Literal["static", "dynamic", "dynamic_blocks"]
"""When scales are worked out: `static`, all beforehand; `dynamic`, all from the tensor at run time;
`dynamic_blocks`, the block scales at run time under a fixed outer scale (two-level formats only)."""

SLOTS = ("weight", "input", "output", "q", "k", "v", "softmax")
"""The places of a module where a quantizer can sit; q, k, v and softmax are the operands of attention. A module's
quantizer is named `<slot>_quantizer`; of several of a kind, each has a word of its own in front: `left_input`."""


ModuleRole = Literal["router"]
"""What a module does in the model, as its trace shows: a `router` chooses among experts."""

DEFAULT_MODE = "the default of this format and slot"


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
    if mode == "static" and not is_weight and fmt.block.rows != WHOLE:
        possible = "dynamic" if fmt.outer is None else "dynamic_blocks or dynamic"
        return (
            f"mode static is impossible for an activation in {fmt.name}: its scales follow tokens "
            f"(one per {fmt.block}); use {possible}"
        )
    return None


def amax_problem(fmt: TensorFormat, mode: Mode, *, is_weight: bool) -> str | None:
    """Why a slot cannot have a constant amax, or None if it can: it must have one fixed scale of the whole tensor,
    and else only scales that are worked out at run time."""
    if is_weight:
        return "a weight's amax is its own; a constant one is for activations and what attention reads"
    if mode == "dynamic":
        return "mode dynamic takes every amax from the tensor; a constant one needs static or dynamic_blocks"
    if not fmt.symmetric or (fmt.block != PER_TENSOR if fmt.outer is None else mode == "static"):
        return f"a constant amax needs one fixed scale a tensor; {fmt.name} ({mode}) has others, from data"
    return None


def quantizer_names(module: str, slot: str, *, is_weight: bool) -> tuple[str, ...]:
    """The names under which rules find a slot, its own first.

    A weight of its own name (one of several of a module) is found under its own name and as the module's weight;
    and one of several inputs likewise.

    Example:
        >>> quantizer_names("mlp.up", "input", is_weight=False)
        ('mlp.up.input_quantizer',)
        >>> quantizer_names("mlp.experts", "down_proj", is_weight=True)
        ('mlp.experts.down_proj_weight_quantizer', 'mlp.experts.weight_quantizer')
        >>> quantizer_names("score", "left_input", is_weight=False)
        ('score.left_input_quantizer', 'score.input_quantizer')
    """
    prefix = f"{module}." if module else ""
    if is_weight and slot != "weight":
        return (f"{prefix}{slot}_weight_quantizer", f"{prefix}weight_quantizer")
    kind = slot.rpartition("_")[2]
    if slot not in SLOTS and kind in SLOTS:
        return (f"{prefix}{slot}_quantizer", f"{prefix}{kind}_quantizer")
    return (f"{prefix}{slot}_quantizer",)


def when(mode: Mode, amax: float | None) -> str:
    """When scales are worked out, as tables say it.

    Example:
        >>> when("static", None), when("static", 448.0)
        ('static', 'static, amax 448: no calibration')
    """
    return mode if amax is None else f"{mode}, amax {amax:g}: no calibration"


@dataclass(frozen=True)
class SlotSetting:
    """A format and when its scales are worked out; `options` are for algorithms, untouched by the core.

    `amax` is a constant that stands for the tensor's largest magnitude, so that none is calibrated.
    `mode_origin` says who chose the mode: "stated" in the rule, or `DEFAULT_MODE`.
    """

    format: TensorFormat
    mode: Mode
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    mode_origin: str = field(default="stated", compare=False)
    amax: float | None = None

    def __str__(self) -> str:
        return f"{self.format.name} ({when(self.mode, self.amax)})"


@dataclass(frozen=True)
class SlotRule:
    """One rule on quantizers; in a list of rules, later ones win.

    Attributes:
        pattern: fnmatch glob on the full quantizer name, `<module>.<slot>_quantizer`; case matters.
        setting: what matching slots get; None leaves the format as earlier rules set it.
        enable: whether matching slots quantize.
        origin: where the rule stands, for messages: "rule #2 of recipe w4a4.yaml".
        module_type: registry key of the module that holds the quantizer ("nn.Linear"), or a glob on it
            ("nn.Conv*"); None for any module.
        only: the kind of tensor that the rule speaks of; "any" leaves it to the pattern.
        role: what the module must do in the model; None for any. Where there is no trace, no module has a role.
        alternatives: name of a set of rules of which it is enough that one matches something; by default the rules
            of one origin.
    """

    pattern: str
    setting: SlotSetting | None
    enable: bool
    origin: str
    module_type: str | None = None
    only: Literal["weight", "activation", "any"] = "any"
    role: ModuleRole | None = None
    alternatives: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.alternatives:
            object.__setattr__(self, "alternatives", self.origin)

    @property
    def must_match(self) -> bool:
        """Whether it is an error if no slot matches: a rule that only switches off may match nothing."""
        return self.enable

    def names(self, module: str) -> bool:
        """Whether the rule speaks of this module by its type, role or own name, not just of all modules somewhere.

        Example:
            >>> rule = SlotRule("*layers.*norm.input_quantizer", None, True, "rule #1 of recipe mine")
            >>> rule.names("layers.0.norm"), rule.names("layers.0.norm.act")
            (True, False)
        """
        if self.module_type is not None or self.role is not None:
            return True
        own = module.rpartition(".")[2]
        before_slot = self.pattern.rpartition(".")[0]  # "*norm" of "*norm.input_quantizer"
        without_slot = re.sub(r"\w*quantizer.*$", "", self.pattern)  # "*norm*" of "*norm*input_quantizer"
        parts = (head.rpartition(".")[2] for head in (before_slot, without_slot))
        return any(fnmatchcase(own, part) and any(map(str.isalpha, part)) for part in parts)

    def matches(
        self, module: str, slot: str, *, is_weight: bool, module_type: str | None, role: ModuleRole | None = None
    ) -> bool:
        """Whether the rule speaks of this slot of the module of that dotted name, registry key and role.

        Example:
            >>> rule = SlotRule("*lm_head*", None, False, "rule #1 of recipe mine")
            >>> rule.matches("model.lm_head", "input", is_weight=False, module_type="nn.Linear")
            True
        """
        if self.module_type is not None and not fnmatchcase(module_type or "", self.module_type):
            return False
        if self.role not in (None, role):
            return False
        if self.only != "any" and (self.only == "weight") != is_weight:
            return False
        names = quantizer_names(module, slot, is_weight=is_weight)
        return any(fnmatchcase(name, self.pattern) for name in names)


@dataclass(frozen=True)
class AlgorithmStep:
    """One calibration algorithm by name, with its options as written; the algorithm validates them."""

    method: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    origin: str = field(default="mtcore's default", compare=False)


WhenStarved = Literal["report", "more_samples", "all_experts"]
Unseen = Literal["error", "siblings"]


@dataclass(frozen=True)
class ExpertsSetting:
    """What is done about experts that the calibration data hardly reach.

    Attributes:
        min_tokens: with fewer an expert is starved; and in any case with less than a tenth of what its siblings
            saw on average.
        when_starved: "report" names them with their tokens. "more_samples" runs more of the data source, until
            every expert has its tokens or the data end. "all_experts" sends the calibration tokens through the
            starved experts too, whatever the router says; their outputs are not used.
        unseen: an expert without any token, whose input needs a scale from data, is an "error"; or gets the scale
            of its "siblings". Experts whose weights are stacked share one scale of the input in any case.
        origin: who said so.
    """

    min_tokens: int = 0
    when_starved: WhenStarved = "report"
    unseen: Unseen = "error"
    origin: str = field(default="mtcore's default", compare=False)


@dataclass(frozen=True)
class QuantizeConfig:
    """A whole request, validated and never changed afterwards. Every quantizer starts switched off.

    Attributes:
        name: of the recipe, for messages.
        rules: in order; later ones win.
        algorithm: steps in order; empty means that nothing is calibrated.
        max_unquantized: the share of matrix-weight elements, in [0, 1], that may stay unquantized without a rule
            that says so; a plan above it is an error (the coverage guard).
        summary: one line for listings.
        guard_origin: where `max_unquantized` was said.
        experts: what is done about experts that the data hardly reach.
        targets: dialects or clients for which the checkpoints are, in order; empty where the recipe names none.
        targets_origin: where they were said.
        notes: what was accepted in the user's text but has no effect here, and why; one line each.
    """

    name: str
    rules: tuple[SlotRule, ...]
    algorithm: tuple[AlgorithmStep, ...] = (AlgorithmStep("max"),)
    max_unquantized: float = 0.1
    summary: str = ""
    guard_origin: str = field(default="mtcore's default", compare=False)
    experts: ExpertsSetting = field(default_factory=ExpertsSetting)
    targets: tuple[str, ...] = ()
    targets_origin: str = field(default="", compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

"""The plan: what will be done to every module, decided before anything is touched. A frozen value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from mtcore.formats import TensorFormat
from mtcore.recipe.setting import AlgorithmStep, ExpertsSetting, Mode
from mtcore.trace import FoldGroup, SharedInputGroup, SymGroup

Extra = Literal["pre_quant_scale", "low_rank"]
"""What a quantized layer may hold beside codes and scales; see `ModulePlan`."""


@dataclass(frozen=True)
class SlotPlan:
    """One quantizer that will exist.

    Attributes:
        slot: weight, input, output, q, k, v; or the parameter's own name where a module has several weights.
        format: of the stored tensor.
        mode: when its scales are worked out.
        rule: origin of the rule that decided.
        group: name of the `ScaleGroup` whose per-tensor amax this slot shares, or None.
        amax: a constant that stands for the tensor's largest magnitude, or None where that comes from data.
    """

    slot: str
    format: TensorFormat
    mode: Mode
    rule: str
    group: str | None = None
    amax: float | None = None

    @property
    def scales_from_data(self) -> bool:
        """Whether an activation here has a scale, at least in part, that is fixed beforehand, and by data."""
        return self.mode != "dynamic" and self.amax is None


@dataclass(frozen=True)
class ModulePlan:
    """The decision on one module that holds parameters of its own.

    Attributes:
        name: dotted name in the model.
        type: class name.
        spec: key in the quant-module registry, or None where no quantized form is known.
        shapes: of its own parameters, by name.
        slots: its quantizers; empty where the module stays as it is.
        reason: one line: the rule that decided, or why nothing is done.
        by_rule: whether a rule (rather than the lack of one) decided that the module stays.
        facts: numbers that the trace found and the quantized form needs, by name: for stacked expert weights, the
            axis of each one's output channels; for written-out attention, which products are which.
        pre_quant_scale: whether the columns of its input are multiplied by scales that stay on the layer.
        low_rank: rank of a branch in 16 bits beside the quantized weight; 0 where there is none.
    """

    name: str
    type: str
    spec: str | None
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    slots: tuple[SlotPlan, ...]
    reason: str
    by_rule: bool = False
    facts: tuple[tuple[str, tuple[int, ...]], ...] = ()
    pre_quant_scale: bool = False
    low_rank: int = 0

    @property
    def quantized(self) -> bool:
        return bool(self.slots)

    @property
    def extras(self) -> tuple[Extra, ...]:
        """What it holds beside codes and scales."""
        scale: tuple[Extra, ...] = ("pre_quant_scale",) if self.pre_quant_scale else ()
        return (*scale, "low_rank") if self.low_rank else scale

    @property
    def branch_bytes(self) -> int:
        """What its low-rank branch costs: 16 bits an element of two matrices, [rows, rank] and [rank, cols]."""
        return 2 * self.low_rank * sum(dict(self.shapes)["weight"]) if self.low_rank else 0

    def slot(self, name: str) -> SlotPlan | None:
        """The slot of that name, or None."""
        return next((slot for slot in self.slots if slot.slot == name), None)


Holds = Callable[[ModulePlan, Extra], bool]
"""Whether what comes after calibration, a dialect of checkpoint, can hold this beside a module's codes."""


def holds_nothing(module: ModulePlan, extra: Extra) -> bool:
    """Codes and scales alone."""
    return False


@dataclass(frozen=True)
class ScaleGroup:
    """Slots whose per-tensor (outer) amax is one number, because a server fuses them or they read one value."""

    name: str
    slot: str
    modules: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Finding:
    """Something that a user should know before the run. Errors stop it; warnings do not."""

    level: Literal["error", "warning", "note"]
    where: str
    message: str


@dataclass(frozen=True)
class Coverage:
    """Matrix-weight elements (parameters of two or more axes, each counted once): all, quantized, and left
    unquantized although no rule said so."""

    total: int
    quantized: int
    unexplained: int

    @property
    def share(self) -> float:
        return self.quantized / self.total if self.total else 1.0


@dataclass(frozen=True)
class Plan:
    """Every module that holds parameters, with its decision and the rule that made it.

    `experts`: what is done about those that the data hardly reach. `targets`: for whom the recipe says that the
    checkpoints are.

    `folds`, for algorithms that scale channels, `streams`, for those that turn them along a residual stream, and
    `shared_inputs`, for values that are looked at once, are facts of the trace; they are not saved with the plan.
    `folds_proven`: every fold was shown to leave the outputs of the model as they are.
    """

    recipe: str
    modules: tuple[ModulePlan, ...]
    groups: tuple[ScaleGroup, ...]
    algorithm: tuple[AlgorithmStep, ...]
    findings: tuple[Finding, ...]
    coverage: Coverage
    experts: ExpertsSetting = field(default_factory=ExpertsSetting)
    targets: tuple[str, ...] = ()
    folds: tuple[FoldGroup, ...] = field(default=(), compare=False, repr=False)
    shared_inputs: tuple[SharedInputGroup, ...] = field(default=(), compare=False, repr=False)
    streams: tuple[SymGroup, ...] = field(default=(), compare=False, repr=False)
    folds_proven: bool = field(default=False, compare=False, repr=False)

    def __iter__(self) -> Iterator[ModulePlan]:
        return iter(self.modules)

    def __getitem__(self, name: str) -> ModulePlan:
        """The plan of the module of that dotted name; KeyError if the plan has none."""
        for module in self.modules:
            if module.name == name:
                return module
        raise KeyError(name)

    @property
    def quantized(self) -> tuple[ModulePlan, ...]:
        return tuple(module for module in self.modules if module.quantized)

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == "error")

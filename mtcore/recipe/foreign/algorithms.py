"""Algorithms under their names in Model-Optimizer: what each, and each of its options, is here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mtcore.recipe.setting import AlgorithmStep

Note = Callable[[str, str], None]
"""(what has no effect, why)"""

Problem = Callable[[str], None]


@dataclass(frozen=True)
class ForeignAlgorithm:
    """One algorithm there.

    Attributes:
        method: its name here.
        options: their name → our name.
        defaults: their defaults, by their names, where the option is translated.
        fixed: options here that the name there stands for, by our names.
        before: a step that it includes there and that is one of its own here.
        no_effect: options there that need no counterpart: why.
        only: options there whose one value we can honour, and why no other.
    """

    method: str
    options: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    before: AlgorithmStep | None = None
    no_effect: Mapping[str, str] = field(default_factory=dict)
    only: Mapping[str, tuple[Any, str]] = field(default_factory=dict)

    @property
    def here(self) -> str:
        """As a recipe of ours writes it: `{method: awq, variant: clip}`."""
        steps = [] if self.before is None else [_written(self.before.method, self.before.options)]
        steps.append(_written(self.method, self.fixed))
        return steps[0] if len(steps) == 1 else f"[{', '.join(steps)}]"


def _written(method: str, options: Mapping[str, Any]) -> str:
    said = "".join(f", {name}: {value}" for name, value in options.items())
    return f"{{method: {method}{said}}}" if said else method


_ANY = {
    "debug": "nothing is kept on modules",
    "distributed_sync": "processes under torchrun always decide together",
    "skip_forward_without_activation_calib": "the data run only where a step asks for it",
    "max_co_batch_size": "weights are tried in parts that fit",
    "max_tokens_per_batch": "the products of all tokens decide",
    "fused": "kernels are chosen by the plan",
    "block_size": "blocks are those of the format",
}
_ONLY: dict[str, tuple[Any, str]] = {
    "moe_calib_experts_ratio": (None, "say experts.when_starved: all_experts in the recipe"),
    "use_sequential": (False, "gptq and autoround go block by block by themselves"),
    "sync_expert_weight_amax": (False, "experts have scales of their own"),
    "shared_states": (None, "the trace finds which weights share scales"),
    "shrink_step": (0.05, "steps of 0.05 are tried"),
    "skip_layers": (None, "every quantized layer is treated"),
    "weight_scale_algorithm": ({"method": "max"}, "put that algorithm before this one, in a list"),
}
_SEARCH = {"step_size": "step", "start_multiplier": "start", "stop_multiplier": "stop", "fp8_scale_sweep": "sweep"}
_LITE = {"alpha_step": 0.1}

FOREIGN: Mapping[str, ForeignAlgorithm] = {
    "max": ForeignAlgorithm("max"),
    "mse": ForeignAlgorithm(
        "mse",
        _SEARCH,
        {"step_size": 0.1, "start_multiplier": 0.25, "stop_multiplier": 4.0, "fp8_scale_sweep": False},
    ),
    "local_hessian": ForeignAlgorithm(
        "local_hessian", no_effect=dict.fromkeys(_SEARCH, "all codes of the scale near the magnitude are tried")
    ),
    "smoothquant": ForeignAlgorithm("smoothquant", {"alpha": "alpha"}, {"alpha": 1.0}),
    "awq_lite": ForeignAlgorithm("awq", {"alpha_step": "grid"}, _LITE, {"variant": "lite"}),
    "awq_clip": ForeignAlgorithm("awq", {"min_clip_ratio": "least"}, {"min_clip_ratio": 0.5}, {"variant": "clip"}),
    "awq_full": ForeignAlgorithm(
        "awq",
        {"alpha_step": "grid", "min_clip_ratio": "least"},
        {**_LITE, "min_clip_ratio": 0.5},
        {"variant": "full"},
    ),
    "svdquant": ForeignAlgorithm(
        "svdquant", {"lowrank": "rank"}, {"lowrank": 32}, before=AlgorithmStep("awq", {"grid": 10})
    ),
    "gptq": ForeignAlgorithm(
        "gptq", {"perc_damp": "damping", "block_size": "step"}, {"perc_damp": 0.01, "block_size": 128}
    ),
    "nvfp4_act_headroom": ForeignAlgorithm(
        "headroom",
        {"anchor_percentile": "anchor", "upper_percentile": "upper", "rho": "spread"},
        {"anchor_percentile": 1.0, "upper_percentile": 99.99, "rho": 16384.0},
    ),
}
"""By their name there. `lsq` has no counterpart: rounding is learned by `autoround`, scales are not."""


def translated(step: AlgorithmStep, note: Note, problem: Problem) -> Iterator[AlgorithmStep]:
    """A step as it is meant there. One whose name is not from there stays as it is, and so do options of ours."""
    known = FOREIGN.get(step.method)
    if known is None:
        yield step
        return
    options: dict[str, Any] = dict(known.fixed)
    for name, value in {**known.defaults, **step.options}.items():
        if name in known.options:
            steps = name == "alpha_step" and isinstance(value, int | float) and value > 0
            options[known.options[name]] = round(1 / value) if steps else value
        elif name == "layerwise":
            if isinstance(value, Mapping) and value.get("enable"):
                note(f"layerwise of {step.method}", "say --layerwise on the line")
        elif name in known.no_effect or name in _ANY:
            note(f"{name} of {step.method}", known.no_effect.get(name) or _ANY[name])
        elif name in _ONLY and value == _ONLY[name][0]:
            note(f"{name} of {step.method}", "it is at its default")
        elif name in _ONLY:
            problem(f"{name} of {step.method}: {value!r} cannot be honoured: {_ONLY[name][1]}")
        else:
            options[name] = value  # ours, or nobody's: the planner says
    if known.before is not None:
        yield AlgorithmStep(known.before.method, known.before.options, step.origin)
    yield AlgorithmStep(known.method, options, step.origin)


def spelled_here(name: str) -> str | None:
    """How a recipe writes an algorithm that another tool or paper names otherwise; None for a name of no other.

    Example:
        >>> spelled_here("awq_clip"), spelled_here("quarot")
        ('{method: awq, variant: clip}', 'rotate')
    """
    word = name.lower().replace("-", "_")
    return FOREIGN[word].here if word in FOREIGN else _WORDS.get(word)


_WORDS = {
    "minmax": "max",
    "min_max": "max",
    "absmax": "max",
    "rtn": "max",
    "histogram": "percentile or entropy",
    "kl": "entropy",
    "hadamard": "rotate",
    "quarot": "rotate",
    "spinquant": "rotate",
    "signround": "autoround",
    "auto_round": "autoround",
    "adaround": "autoround",
    "four_over_six": "{method: max, four_over_six: true}",
    "smooth_quant": "smoothquant",
    "svd": "svdquant",
}

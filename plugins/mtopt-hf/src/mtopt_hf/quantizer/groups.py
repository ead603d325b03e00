"""What a checkpoint's configuration says about a module: the number formats of its weight and of its input."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtcore.errors import ModelError
from mtcore.formats import TensorFormat
from mtcore.formats.catalog import INT8_ROW, INT8_ROW_FULL
from mtcore.recipe import Mode
from mtopt_hf.ct.spelling import SPELLINGS, Arguments
from mtopt_hf.lint.config import is_of_attention

_WEIGHT_KEYS = ("num_bits", "type", "strategy", "group_size", "symmetric", "block_structure")
_INPUT_KEYS = (*_WEIGHT_KEYS, "dynamic")

_RUN_TIME = {INT8_ROW: INT8_ROW_FULL}
"""A file does not say how amax becomes a scale at run time; compressed-tensors maps that of a token on 127.5."""


@dataclass(frozen=True)
class Group:
    """One group of a compressed-tensors configuration.

    Attributes:
        targets: names of modules, `re:` patterns, or class names, which mean every module that no name takes.
        weight: format of the weight.
        input: format and mode of the input, or None where it is not quantized.
    """

    targets: tuple[str, ...]
    weight: TensorFormat
    input: tuple[TensorFormat, Mode] | None

    def names(self, module: str) -> bool:
        """Whether a target speaks of this module, or of one inside it: experts are written one by one."""
        return any(
            re.match(target[3:], module) is not None
            if target.startswith("re:")
            else target == module or target.startswith(f"{module}.")
            for target in self.targets
        )


def read_groups(config: Mapping[str, Any]) -> tuple[Group, ...]:
    """The groups of a `quantization_config` that speak of layers with weights.

    Raises:
        ModelError: a group uses arguments that mtcore has no format for.
    """
    groups = config.get("config_groups") or {}
    return tuple(_group(name, group) for name, group in groups.items() if not is_of_attention(group))


def group_of(module: str, groups: Sequence[Group]) -> Group:
    """The group of a module that has codes: the one that names it, else the one for all."""
    named = [group for group in groups if group.names(module)]
    for_all = [group for group in groups if any(target.isalpha() for target in group.targets)]
    if not named and not for_all:
        raise ModelError(f"{module}: it has codes, but the configuration has no group that says how to read them")
    return (named or for_all)[0]


def _group(name: str, group: Mapping[str, Any]) -> Group:
    weights, given = group["weights"], group.get("input_activations")
    known = (s for s in SPELLINGS if s.weight is not None and _same(s.weight, weights, _WEIGHT_KEYS))
    spelling = next(known, None)
    if spelling is None:
        raise ModelError(f"{name} of the configuration: mtcore has no format for weights with {_shown(weights)}")
    if given is None:
        return Group(tuple(group["targets"]), spelling.format, None)
    for candidate in SPELLINGS:
        for mode, arguments in candidate.activation.items():
            if _same(arguments, given, _INPUT_KEYS):
                fmt = _RUN_TIME.get(candidate.format, candidate.format) if mode == "dynamic" else candidate.format
                return Group(tuple(group["targets"]), spelling.format, (fmt, mode))
    raise ModelError(f"{name} of the configuration: mtcore has no format for inputs with {_shown(given)}")


def _same(ours: Arguments, theirs: Mapping[str, Any], keys: Sequence[str]) -> bool:
    return all(ours.get(key) == theirs.get(key) for key in keys)


def _shown(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {arguments[key]}" for key in _INPUT_KEYS if arguments.get(key) is not None)

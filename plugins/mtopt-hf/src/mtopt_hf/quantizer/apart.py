"""Experts that our files hold one by one although the hub stacks them: the conversions that merge them again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn
from transformers.core_model_loading import Concatenate, MergeModulelist, Transpose, WeightConverter

from mtopt_hf.checkpoint.apart import GATED, HALVES, LAST


def apart_conversions(model: nn.Module, known: Sequence[Any]) -> list[WeightConverter]:
    """A converter for each kind of stacked experts that no converter of the model merges.

    Kinds are told by the last two names of the module, as in transformers' own conversions.
    """
    merged = [target for converter in known for target in _targets_of_merges(converter)]
    kinds: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        stacked = all(getattr(module._parameters.get(p), "ndim", 0) == 3 for p in (GATED, LAST))
        if stacked and not any(re.search(target, f"{name}.{GATED}") for target in merged):
            kinds.setdefault(".".join(name.split(".")[-2:]), module)
    return [converter for kind, module in kinds.items() for converter in _converters(kind, module)]


def _targets_of_merges(converter: Any) -> Sequence[str]:
    if not isinstance(converter, WeightConverter):
        return ()
    merges = any("*" in source for source in converter._original_source_patterns)
    return converter._original_target_patterns if merges else ()


def _converters(kind: str, module: nn.Module) -> Iterator[WeightConverter]:
    first, last = module._parameters[GATED], module._parameters[LAST]
    assert first is not None
    assert last is not None
    turned = [Transpose(1, 2)] if first.shape[1] == last.shape[2] else []
    gates = [f"{kind}.*.{half}.weight" for half in HALVES]
    yield WeightConverter(gates, f"{kind}.{GATED}", [MergeModulelist(dim=0), Concatenate(dim=1), *turned])
    yield WeightConverter(f"{kind}.*.{LAST}.weight", f"{kind}.{LAST}", [MergeModulelist(dim=0), *turned])

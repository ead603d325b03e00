"""The `quantization_config` of config.json: groups of modules, and the exact names that stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mtcore.export.natural import natural_order
from mtcore.plan import Plan
from mtopt_hf.ct.scheme import Scheme, scheme_of

METHOD = "compressed-tensors"


def quantization_config(plan: Plan, ignore: Iterable[str], hub_name: Callable[[str], str]) -> dict[str, Any] | None:
    """The configuration that clients read, or None where nothing is quantized.

    One group takes every linear layer that is not ignored. Several groups name their modules one by one: vLLM
    would give a fused layer to the class name "Linear" before it looks at the names of its parts.

    Args:
        plan: what was done.
        ignore: names of unquantized modules that hold matrices.
        hub_name: from the name of a quantized module in memory to its name in the file. Where the two differ, the
            configuration lists both: transformers compares names in memory, vLLM names in the file.
    """
    groups: dict[str, tuple[Scheme, list[str]]] = {}
    for module in plan.quantized:
        scheme = scheme_of(module)
        _, members = groups.setdefault(repr(scheme), (scheme, []))
        members += dict.fromkeys((module.name, hub_name(module.name)))
    if not groups:
        return None
    targets = [["Linear"]] if len(groups) == 1 else [members for _, members in groups.values()]
    layouts = {scheme.layout for scheme, _ in groups.values()}
    quantized = {name for _, members in groups.values() for name in members}
    return {
        "quant_method": METHOD,
        "format": layouts.pop() if len(layouts) == 1 else "mixed-precision",
        "quantization_status": "compressed",
        "config_groups": {
            f"group_{index}": scheme.to_json(names)
            for index, ((scheme, _), names) in enumerate(zip(groups.values(), targets, strict=True))
        },
        "ignore": sorted(set(ignore) - quantized, key=natural_order),
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }

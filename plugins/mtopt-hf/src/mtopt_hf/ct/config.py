"""The `quantization_config` of config.json: groups of modules, and the exact names that stay as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mtopt_hf.checkpoint.dialect import Contents, Description
from mtopt_hf.ct.scheme import Scheme, scheme_of
from mtopt_hf.ct.spelling import Arguments, Layout, cache_arguments

METHOD = "compressed-tensors"

FLOATS_IN_BF16: frozenset[Layout] = frozenset(
    {"nvfp4-pack-quantized", "mxfp4-pack-quantized", "mxfp6-pack-quantized", "mxfp8-quantized"}
)
"""Layouts whose weights transformers takes to bf16 and leaves there."""


def describe(contents: Contents) -> Description:
    """The configuration that clients read, and the dtype that they compute in.

    One group takes every linear layer that is not ignored. Several groups name their modules one by one: vLLM
    would give a fused layer to the class name "Linear" before it looks at the names of its parts. Where names in
    memory and in the file differ, it lists both: transformers compares names in memory, vLLM names in the file.
    Experts in memory are listed as patterns: by a pattern with "experts" transformers knows the group of experts.
    """
    groups: dict[str, tuple[Scheme, list[str]]] = {}
    of_module: dict[str, set[str]] = {}
    for layer in contents.layers:
        of_module.setdefault(layer.pair.module.name, set()).add(repr(scheme_of(layer.weight, layer.input)))
    for layer in contents.layers:
        scheme, memory = scheme_of(layer.weight, layer.input), layer.pair.module.name
        _, members = groups.setdefault(repr(scheme), (scheme, []))
        one_scheme = len(of_module[memory]) == 1
        pattern = rf"re:{re.escape(memory)}(\.|$)" if layer.expert is not None and one_scheme else memory
        members += dict.fromkeys((pattern, layer.name))
    targets = [["Linear"]] if len(groups) == 1 else [list(dict.fromkeys(names)) for _, names in groups.values()]
    layouts = {scheme.layout for scheme, _ in groups.values()}
    cache = None if contents.cache is None else dict(cache_arguments(contents.cache))
    of_layers = [scheme.to_json(names) for (scheme, _), names in zip(groups.values(), targets, strict=True)]
    of_queries = [_query_group(name, cache) for name in contents.queries]
    quantization = {
        "quant_method": METHOD,
        "format": layouts.pop() if len(layouts) == 1 else "mixed-precision" if layouts else "dense",
        "quantization_status": "compressed",
        "config_groups": {f"group_{index}": group for index, group in enumerate((*of_layers, *of_queries))},
        "ignore": list(contents.ignore),
        "kv_cache_scheme": cache,
        "global_compression_ratio": None,
    }
    return Description({**_dtype(contents), "quantization_config": quantization})


def _query_group(attention: str, arguments: Arguments | None) -> Mapping[str, Any]:
    """Queries: a group on the class of the attention, beside the scheme of the cache, which has the same arguments.

    vLLM leaves out a group whose only target ends with "Attention", and takes the scales of queries from the file.
    """
    return {
        "targets": [attention],
        "weights": None,
        "input_activations": arguments,
        "output_activations": None,
        "format": None,
    }


def _dtype(contents: Contents) -> Mapping[str, str]:
    """What config.json must say about the dtype to compute in.

    With NVFP4 and MX formats it is bf16 whatever the source says: transformers takes such weights to bf16, then
    fails in a model of another dtype.
    """
    layouts = {scheme_of(layer.weight, layer.input).layout for layer in contents.layers}
    if layouts & FLOATS_IN_BF16:
        return {contents.dtype_key: "bfloat16"}
    return contents.missing_dtype

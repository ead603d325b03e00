"""Which modules each client leaves alone, for one list of entries: the same words mean other things to each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache

from mtopt_hf.lint.config import Declared, matches
from mtopt_hf.lint.names import FUSED_NAMES, is_embedding

Ignores = Callable[[Declared, str], bool]


def _compressed_tensors(says: Declared, module: str) -> bool:
    return any(matches(entry, module) for entry in says.ignore)


def _modelopt_vllm(says: Declared, module: str) -> bool:
    """Exact names, names of fused layers, any part of a name, and `*` patterns; `x*` is `x` and `x.*`."""
    return any(
        entry in module or (entry.endswith("*") and entry[:-1] in module) or fnmatchcase(module, entry)
        for entry in _expanded(says)
    )


def _modelopt_globs(says: Declared, module: str) -> bool:
    """Exact names and `*` patterns over the whole name."""
    return any(entry == module or fnmatchcase(module, entry) for entry in _expanded(says))


def _substrings(says: Declared, module: str) -> bool:
    return any(matches(entry, module) if entry.startswith("re:") else entry in module for entry in says.ignore)


def _names_and_parents(says: Declared, module: str) -> bool:
    return any(
        module == entry or module.startswith(f"{entry}.") or entry in module.split(".") for entry in says.ignore
    )


@lru_cache(maxsize=16)
def _expanded(says: Declared) -> list[str]:
    entries = []
    for entry in says.ignore:
        parent, dot, local = entry.rpartition(".")
        entries += [f"{parent}{dot}{part}" for part in FUSED_NAMES.get(local, ())] or [entry]
    return entries


_BY_CLIENT: Mapping[tuple[str, str], Ignores] = {
    ("modelopt", "vllm"): _modelopt_vllm,
    ("modelopt", "trtllm"): _modelopt_globs,
    ("modelopt", "sglang"): _modelopt_globs,
}

_BY_METHOD: Mapping[str, Ignores] = {
    "compressed-tensors": _compressed_tensors,
    "modelopt": _modelopt_globs,
    "fp8": _names_and_parents,
    "awq": _substrings,
    "gptq": _substrings,
}


def ignored(says: Declared, module: str, client: str) -> bool:
    """Whether a client leaves a module as it is because of the list."""
    rule = _BY_CLIENT.get((says.method, client)) or _BY_METHOD.get(says.method)
    return rule is not None and rule(says, module)


def any_match(says: Declared, entry: str, modules: Mapping[str, object]) -> bool:
    """Whether one entry stands for any module, or any part of one, to any client."""
    if entry.startswith("re:"):
        return any(matches(entry, module) for module in modules)
    if "*" in entry or "?" in entry:
        bare = entry.rstrip("*").rstrip(".")
        return any(fnmatchcase(module, entry) or (bare and bare in module) for module in modules)
    parent, dot, local = entry.rpartition(".")
    if any(f"{parent}{dot}{part}" in modules for part in (local, *FUSED_NAMES.get(local, ()))):
        return True
    if says.method == "compressed-tensors":  # a writer may list names in memory as well, which begin otherwise
        tail = ".".join(entry.split(".")[-3:])
        inner = ".".join(entry.split(".")[1:])
        known = any(module.endswith(f".{tail}") or (module == inner and "." in inner) for module in modules)
        return known or is_embedding(entry)  # a tied one is in no file, and nobody would quantize it
    return any(entry in module for module in modules)

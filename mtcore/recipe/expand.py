"""From one statement on quantizers to rules: what a pattern can reach, and settings for each kind of tensor."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal

from mtcore.recipe.setting import SLOTS, ModuleRole, SlotRule, SlotSetting

Kind = Literal["weight", "activation"]

_TOKEN = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)


@lru_cache(maxsize=1024)
def kinds_reached(pattern: str) -> frozenset[Kind]:
    """Which kinds of quantizer a glob can match in some model.

    Example:
        >>> sorted(kinds_reached("*lm_head*")), sorted(kinds_reached("*.mlp.*weight_quantizer"))
        (['activation', 'weight'], ['weight'])
    """
    kinds: set[Kind] = set()
    if _can_end_with(pattern, "weight_quantizer"):
        kinds.add("weight")
    if any(_can_end_with(pattern, f"{slot}_quantizer", whole_name=True) for slot in SLOTS if slot != "weight"):
        kinds.add("activation")
    return frozenset(kinds)


def _can_end_with(pattern: str, suffix: str, *, whole_name: bool = False) -> bool:
    """Whether some name that ends with `suffix` matches; `whole_name`: as the last part of a dotted name."""
    if whole_name and fnmatchcase(suffix, pattern):
        return True
    tokens = _TOKEN.findall(pattern)
    # Any text may come first, so the suffix may start at any place of the pattern: track all places at once.
    places = set(range(len(tokens) + 1))
    for char in f".{suffix}" if whole_name else suffix:
        places = _skip_stars(tokens, places)
        places = {
            at if tokens[at] == "*" else at + 1 for at in places if at < len(tokens) and _fits(char, tokens[at])
        }
    return len(tokens) in _skip_stars(tokens, places)


def _fits(char: str, token: str) -> bool:
    return token == "*" or fnmatchcase(char, token)


def _skip_stars(tokens: list[str], places: set[int]) -> set[int]:
    """`places`, and those behind stars, which may match nothing."""
    result = set(places)
    for at in sorted(places):
        while at < len(tokens) and tokens[at] == "*":
            at += 1
            result.add(at)
    return result


def rules_for(
    pattern: str,
    make_setting: Callable[[bool], SlotSetting | None],
    *,
    enable: bool,
    origin: str,
    module_type: str | None = None,
    only: Literal["weight", "activation", "any"] = "any",
    role: ModuleRole | None = None,
) -> list[SlotRule]:
    """The rules of one statement: a single one where the setting of weights and activations is the same.

    `make_setting(is_weight)` gives the setting for a kind, or None after noting a problem; then no rule results.
    """
    kinds = [kind for kind in sorted(kinds_reached(pattern)) if only in ("any", kind)]
    settings = {kind: make_setting(kind == "weight") for kind in kinds}
    if None in settings.values():
        return []
    if len(kinds) == 2 and settings["weight"] != settings["activation"]:
        return [SlotRule(pattern, settings[kind], enable, origin, module_type, kind, role) for kind in kinds]
    return [SlotRule(pattern, settings[kind], enable, origin, module_type, only, role) for kind in kinds[:1]]

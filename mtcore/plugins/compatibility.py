"""Whether a plugin fits this version of the hooks."""

from __future__ import annotations

import re

from mtcore.errors import PluginError
from mtcore.hookspecs import HOOK_API

ATTRIBUTE = "MTCORE_HOOK_API"
"""The attribute in which a plugin states the version that it was written for."""

SUPPORTED_MINORS = 2
"""How many minor versions a plugin may be behind."""


def parse_version(text: object) -> tuple[int, int]:
    """Major and minor of "0.1".

    Raises:
        PluginError: it is not written like that.
    """
    match = re.fullmatch(r"(\d+)\.(\d+)", text) if isinstance(text, str) else None
    if match is None:
        raise PluginError(f"{ATTRIBUTE} is {text!r}; write the version as text, like {_shown(HOOK_API)!r}")
    return int(match[1]), int(match[2])


def compatibility_note(declared: tuple[int, int], ours: tuple[int, int] = HOOK_API) -> str:
    """ "" if the plugin is up to date, else a line that tells until when it works.

    Raises:
        PluginError: it is too new or too old.

    Example:
        >>> compatibility_note((0, 3), ours=(0, 4))
        'written for hook API 0.3; this mtcore has 0.4 and the last that takes it is 0.5'
    """
    if declared == ours:
        return ""
    if declared > ours:
        raise PluginError(f"written for hook API {_shown(declared)}, newer than {_shown(ours)}: upgrade mtcore")
    if declared[0] < ours[0] or declared[1] < ours[1] - SUPPORTED_MINORS:
        raise PluginError(
            f"written for hook API {_shown(declared)}, too old for {_shown(ours)}: upgrade the plugin"
        )
    last = (declared[0], declared[1] + SUPPORTED_MINORS)
    return (
        f"written for hook API {_shown(declared)}; "
        f"this mtcore has {_shown(ours)} and the last that takes it is {_shown(last)}"
    )


def _shown(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"

"""The built-in searchers, as a hook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mtcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from mtcore.opt.spec import SearcherSpec


@hookimpl
def mtcore_searchers() -> Iterable[SearcherSpec]:
    from mtcore.opt.builtin import builtin_searchers

    return builtin_searchers()

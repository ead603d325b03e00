"""The built-in number formats, as a hook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mtcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from mtcore.formats import TensorFormat


@hookimpl
def mtcore_formats() -> Iterable[TensorFormat]:
    from mtcore.formats import builtin_formats

    return builtin_formats()

"""The built-in quantized layers, as a hook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mtcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from mtcore.nn.spec import QuantModuleSpec


@hookimpl
def mtcore_quant_modules() -> Iterable[QuantModuleSpec]:
    from mtcore.nn.builtin import builtin_quant_modules

    return builtin_quant_modules()

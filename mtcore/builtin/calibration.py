"""The built-in calibration algorithms, as a hook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mtcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from mtcore.calibration.spec import AlgorithmSpec


@hookimpl
def mtcore_algorithms() -> Iterable[AlgorithmSpec]:
    from mtcore.calibration.builtin import builtin_algorithms

    return builtin_algorithms()

"""The calibration algorithms that mtcore brings."""

from __future__ import annotations

from collections.abc import Iterator

from mtcore.calibration.algorithms.autoround import AUTOROUND
from mtcore.calibration.algorithms.awq import AWQ
from mtcore.calibration.algorithms.entropy import ENTROPY
from mtcore.calibration.algorithms.gptq import GPTQ
from mtcore.calibration.algorithms.headroom import HEADROOM
from mtcore.calibration.algorithms.local_hessian import LOCAL_HESSIAN
from mtcore.calibration.algorithms.max import MAX
from mtcore.calibration.algorithms.mse import MSE
from mtcore.calibration.algorithms.percentile import PERCENTILE
from mtcore.calibration.algorithms.rotate import ROTATE
from mtcore.calibration.algorithms.smoothquant import SMOOTHQUANT
from mtcore.calibration.algorithms.svdquant import SVDQUANT
from mtcore.calibration.spec import AlgorithmSpec


def builtin_algorithms() -> Iterator[AlgorithmSpec]:
    """The records, in the order in which they are listed."""
    yield MAX
    yield PERCENTILE
    yield ENTROPY
    yield MSE
    yield LOCAL_HESSIAN
    yield HEADROOM
    yield ROTATE
    yield SMOOTHQUANT
    yield AWQ
    yield SVDQUANT
    yield GPTQ
    yield AUTOROUND

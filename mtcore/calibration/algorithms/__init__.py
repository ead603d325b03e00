"""Calibration drivers: select quantizers, run the data, call the maths, write the result.

The names below are for drivers of one's own. Most of them do what `percentile` does: decide the magnitudes of
activations, and leave weights to `set_weights`; `range_algorithm` makes the record of such a one from its decision.
"""

from mtcore.calibration.algorithms.max import (
    Amaxes,
    Decide,
    max_of,
    needs_data,
    set_activations,
    set_weights,
    share_amax,
    static_activations,
    wanted,
    with_tensor_amax,
)
from mtcore.calibration.algorithms.ranges import range_algorithm
from mtcore.calibration.quantizers import Quantizers, disabled, planned_quantizers, weight_tensor

__all__ = [
    "Amaxes",
    "Decide",
    "Quantizers",
    "disabled",
    "max_of",
    "needs_data",
    "planned_quantizers",
    "range_algorithm",
    "set_activations",
    "set_weights",
    "share_amax",
    "static_activations",
    "wanted",
    "weight_tensor",
    "with_tensor_amax",
]

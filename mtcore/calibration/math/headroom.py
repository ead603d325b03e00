"""Headroom: an outer activation scale that leaves room for values which the calibration data did not show."""

from __future__ import annotations

from torch import Tensor

from mtcore.calibration.math.histogram import log_percentile
from mtcore.errors import CalibrationError


def headroom_amax(counts: Tensor, *, anchor: float = 1.0, upper: float = 99.99, spread: float = 16384.0) -> float:
    """The outer amax of an activation in a two-level format, from the magnitudes of its blocks.

    A block scale of few bits spans a bounded range. If amax of the tensor sits at its top, larger values at run
    time saturate, while the bottom of the range serves blocks that hardly exist. So the amax goes up until the
    block at the `anchor` percentile stands `spread` below it, but never below the `upper` percentile of what was
    seen, and never so high that the anchor's block would lose precision.

    Args:
        counts: int64 [bins], the magnitudes of all blocks as `log_counts` counts them, so that percentiles are at
            most 0.4 % too high; zeros are left out.
        anchor: percentile of the small blocks that must keep a scale of full precision.
        upper: percentile of the blocks below which no cut is made.
        spread: the ratio of the largest to the least magnitude that the scales hold at full precision (E4M3: the
            largest normal over the least is 28,672; the default leaves room below).

    Returns:
        The amax, positive.

    Raises:
        CalibrationError: no block held anything. ValueError: a percentile out of range.
    """
    if not 0 <= anchor < upper <= 100 or not spread > 1:
        raise ValueError(f"anchor {anchor}, upper {upper}, spread {spread}: 0 ≤ anchor < upper ≤ 100, spread > 1")
    if not int(counts[1:].sum()):
        raise CalibrationError("the activation was zero throughout: give data that exercises the layer")
    low, high = (log_percentile(counts, percentile, skip_zeros=True) for percentile in (anchor, upper))
    return max(high, low * spread)

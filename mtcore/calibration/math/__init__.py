"""The pure mathematics of calibration: tensors and a format in, tensors out; no module, file or rank."""

from mtcore.calibration.math.awq import (
    ScaleChoice,
    awq_scales,
    product_errors,
    scale_candidates,
)
from mtcore.calibration.math.correction import corrected_weight
from mtcore.calibration.math.descent import descend
from mtcore.calibration.math.errors import output_error, quadratic
from mtcore.calibration.math.gptq import RoundedWeight, gptq
from mtcore.calibration.math.headroom import headroom_amax
from mtcore.calibration.math.histogram import entropy_amax, linear_counts, log_percentile
from mtcore.calibration.math.learned_rounding import (
    code_distances,
    distribution_loss,
    falling_rates,
    relative_loss,
    scaled_step,
    signed_step,
)
from mtcore.calibration.math.low_rank import LowRankSplit, low_rank_split
from mtcore.calibration.math.smoothing import smoothing_scales
from mtcore.numerics.log_counts import log_counts
from mtcore.numerics.scale_search import best_amax, scaled_amax, squares, swept_amax

__all__ = [
    "LowRankSplit",
    "RoundedWeight",
    "ScaleChoice",
    "awq_scales",
    "best_amax",
    "code_distances",
    "corrected_weight",
    "descend",
    "distribution_loss",
    "entropy_amax",
    "falling_rates",
    "gptq",
    "headroom_amax",
    "linear_counts",
    "log_counts",
    "log_percentile",
    "low_rank_split",
    "output_error",
    "product_errors",
    "quadratic",
    "relative_loss",
    "scale_candidates",
    "scaled_amax",
    "scaled_step",
    "signed_step",
    "smoothing_scales",
    "squares",
    "swept_amax",
]

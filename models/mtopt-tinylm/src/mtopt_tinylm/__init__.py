"""Where the embedded language model and its held-out text lie."""

from mtopt_tinylm.files import (
    calibration_file,
    calibration_text,
    checkpoint_dir,
    evaluation_file,
    evaluation_text,
    metrics,
)

__all__ = [
    "calibration_file",
    "calibration_text",
    "checkpoint_dir",
    "evaluation_file",
    "evaluation_text",
    "metrics",
]

"""Calibration data: from a source that a user names to batches of token ids."""

from mtopt_hf.data.batches import calibration_batches

__all__ = ["calibration_batches"]

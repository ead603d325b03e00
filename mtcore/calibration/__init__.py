"""Calibrate: from data to scales."""

from mtcore.calibration.builtin import builtin_algorithms
from mtcore.calibration.edits import ParameterEdits
from mtcore.calibration.loop import Data, as_forward_loop, calibration_mode, forward_batch
from mtcore.calibration.observers import AmaxObserver
from mtcore.calibration.run import resolve_algorithms, run_algorithms
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun, ForwardLoop

__all__ = [
    "AlgorithmSpec",
    "AmaxObserver",
    "CalibrationRun",
    "Data",
    "ForwardLoop",
    "ParameterEdits",
    "as_forward_loop",
    "builtin_algorithms",
    "calibration_mode",
    "forward_batch",
    "resolve_algorithms",
    "run_algorithms",
]

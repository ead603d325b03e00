"""Calibrate: from data to scales."""

from mtcore.calibration.builtin import builtin_algorithms
from mtcore.calibration.edits import ParameterEdits
from mtcore.calibration.loop import Data, ForwardLoop, as_forward_loop, calibration_mode, forward_batch
from mtcore.calibration.ranks import Ranks, data_parallel
from mtcore.calibration.run import resolve_algorithms, run_algorithms
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun
from mtcore.calibration.statistics import Needs, Statistics, TensorStatistics
from mtcore.calibration.summary import CalibrationSummary, LayerSummary

__all__ = [
    "AlgorithmSpec",
    "CalibrationRun",
    "CalibrationSummary",
    "Data",
    "ForwardLoop",
    "LayerSummary",
    "Needs",
    "ParameterEdits",
    "Ranks",
    "Statistics",
    "TensorStatistics",
    "as_forward_loop",
    "builtin_algorithms",
    "calibration_mode",
    "data_parallel",
    "forward_batch",
    "resolve_algorithms",
    "run_algorithms",
]

"""Calibrate: from data to scales."""

from mtcore.calibration.builtin import builtin_algorithms
from mtcore.calibration.edits import ParameterEdits
from mtcore.calibration.loop import Data, ForwardLoop, as_forward_loop, calibration_mode, forward_batch
from mtcore.calibration.options import OptionHelp, options_help
from mtcore.calibration.ranks import Ranks, data_parallel
from mtcore.calibration.run import find_algorithm, resolve_algorithms, run_algorithms
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
    "OptionHelp",
    "ParameterEdits",
    "Ranks",
    "Statistics",
    "TensorStatistics",
    "as_forward_loop",
    "builtin_algorithms",
    "calibration_mode",
    "data_parallel",
    "find_algorithm",
    "forward_batch",
    "options_help",
    "resolve_algorithms",
    "run_algorithms",
]

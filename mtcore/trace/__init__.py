"""Trace: run a model once; know its graphs and what belongs together."""

from mtcore.trace.analyzer import analyze, shared_input_groups
from mtcore.trace.graph import GraphCollection, NoGraphError
from mtcore.trace.inputs import InputMaker, TraceInputs, example_inputs
from mtcore.trace.recorder import RobustTracer, recursive_trace
from mtcore.trace.replay import Replay
from mtcore.trace.report import CalledModule, Failure, TraceReport
from mtcore.trace.shared_input import SharedInputGroup

__all__ = [
    "CalledModule",
    "Failure",
    "GraphCollection",
    "InputMaker",
    "NoGraphError",
    "Replay",
    "RobustTracer",
    "SharedInputGroup",
    "TraceInputs",
    "TraceReport",
    "analyze",
    "example_inputs",
    "recursive_trace",
    "shared_input_groups",
]

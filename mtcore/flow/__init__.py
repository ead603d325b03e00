"""The main job on checkpoints, from source to directory."""

from mtcore.flow.data_options import DataOptions
from mtcore.flow.estimate import Estimate
from mtcore.flow.evaluate import Evaluation, perplexity
from mtcore.flow.export import export_model
from mtcore.flow.export_targets import TargetReport, export_artifact
from mtcore.flow.layerwise import LayerwiseOptions
from mtcore.flow.loaded import LoadedModel, Tokenizer
from mtcore.flow.rehearsal import Rehearsal
from mtcore.flow.report import LoggingReporter, Phase, Reporter
from mtcore.flow.run import (
    RunSummary,
    evaluate_checkpoint,
    load_checkpoint,
    plan_checkpoint,
    plan_for_targets,
    quantize_checkpoint,
    requantize_checkpoint,
)
from mtcore.flow.search import CheckpointSearch, search_checkpoint
from mtcore.flow.tensor_inputs import forward_arguments, read_inputs
from mtcore.flow.trace import CheckpointTrace, trace_checkpoint

__all__ = [
    "CheckpointSearch",
    "CheckpointTrace",
    "DataOptions",
    "Estimate",
    "Evaluation",
    "LayerwiseOptions",
    "LoadedModel",
    "LoggingReporter",
    "Phase",
    "Rehearsal",
    "Reporter",
    "RunSummary",
    "TargetReport",
    "Tokenizer",
    "evaluate_checkpoint",
    "export_artifact",
    "export_model",
    "forward_arguments",
    "load_checkpoint",
    "perplexity",
    "plan_checkpoint",
    "plan_for_targets",
    "quantize_checkpoint",
    "read_inputs",
    "requantize_checkpoint",
    "search_checkpoint",
    "trace_checkpoint",
]

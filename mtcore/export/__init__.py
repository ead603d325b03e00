"""From artifact to files: the neutral artifact, the exporter record and the unified exporter."""

from mtcore.export.artifact import Artifact, LowRankBranch, QuantizedModule, SourceFiles
from mtcore.export.atomic import target_problems, whole_directory
from mtcore.export.natural import natural_order
from mtcore.export.shards import DEFAULT_SHARD_BYTES, write_tensors
from mtcore.export.spec import Client, ExporterSpec
from mtcore.export.stored import ARTIFACT_FILE, open_artifact, write_artifact
from mtcore.export.targets import Target, choose_target, target_names
from mtcore.export.unified import Exported, UnifiedExporter

__all__ = [
    "ARTIFACT_FILE",
    "DEFAULT_SHARD_BYTES",
    "Artifact",
    "Client",
    "Exported",
    "ExporterSpec",
    "LowRankBranch",
    "QuantizedModule",
    "SourceFiles",
    "Target",
    "UnifiedExporter",
    "choose_target",
    "natural_order",
    "open_artifact",
    "target_names",
    "target_problems",
    "whole_directory",
    "write_artifact",
    "write_tensors",
]

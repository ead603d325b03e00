"""From artifact to files: the neutral artifact, the exporter record and the unified exporter."""

from mtcore.export.artifact import Artifact, LowRankBranch, QuantizedModule, SourceFiles
from mtcore.export.spec import Client, ExporterSpec
from mtcore.export.stored import open_artifact, write_artifact
from mtcore.export.targets import Target, choose_target, target_names
from mtcore.export.unified import Exported, UnifiedExporter

__all__ = [
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
    "open_artifact",
    "target_names",
    "write_artifact",
]

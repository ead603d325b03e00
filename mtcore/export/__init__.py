"""From artifact to files: the neutral artifact, the exporter record and the unified exporter."""

from mtcore.export.artifact import Artifact, QuantizedModule, SourceFiles
from mtcore.export.spec import ExporterSpec
from mtcore.export.unified import Exported, UnifiedExporter

__all__ = ["Artifact", "Exported", "ExporterSpec", "QuantizedModule", "SourceFiles", "UnifiedExporter"]

"""Export a quantized model that is in memory."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from mtcore.export import Exported, SourceFiles, UnifiedExporter
from mtcore.plugins import Registry, default_registry
from mtcore.quantization import to_artifact


def export_model(
    model: nn.Module,
    out: str | Path,
    *,
    dialect: str = "compressed-tensors",
    source: SourceFiles | None = None,
    registry: Registry | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a quantized model as a checkpoint.

    Args:
        model: made by `mtcore.quantize`; not changed.
        out: directory to write; it appears whole at the end, or not at all.
        dialect: name of an exporter.
        source: configuration and files that go beside the weights; `LoadedModel.files` where the model came from
            `load_checkpoint`.

    Raises:
        StateError: the model is not quantized. UnknownNameError: no such dialect.
        ExportError: what the dialect cannot express, or why `out` cannot be written.
    """
    registry = registry or default_registry()
    exporter = UnifiedExporter(registry.exporters)
    exporter.check_target(dialect, Path(out), overwrite=overwrite)
    return exporter.export(to_artifact(model, source), Path(out), dialect, overwrite=overwrite)

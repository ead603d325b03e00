"""A dialect of checkpoint: codes and scales of every weight in one file, its names told by `layout.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file

from mtcore.export import Artifact, ExporterSpec
from mtcore.plan import Plan

SPELLING = {"fp8": "float8 e4m3, one scale", "int8_row": "int8, one scale a row"}
"""Format → how the dialect calls it. Everything else is refused before a run starts."""


def check(plan: Plan) -> Sequence[str]:
    """One line for every slot that the dialect cannot express."""
    return [
        f"{module.name}: {slot.slot} in {slot.format.name} cannot be written; known: {', '.join(SPELLING)}"
        for module in plan.quantized
        for slot in module.slots
        if slot.format.name not in SPELLING
    ]


def write(artifact: Artifact, directory: Path) -> None:
    """model.safetensors, layout.json, config.json, and the files that came with the model."""
    tensors, layout = dict(artifact.tensors), {}
    for name, module in artifact.modules.items():
        for parameter, weight in module.weights.items():
            key = f"{name}.{parameter}"
            tensors[f"{key}.codes"], tensors[f"{key}.scale"] = weight.qdata, weight.qparams.scale
            layout[key] = SPELLING[weight.qparams.format.name]
    save_file(tensors, directory / "model.safetensors")
    for file, content in (("layout.json", layout), ("config.json", dict(artifact.source.config))):
        (directory / file).write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")
    artifact.source.write_files(directory)


PLAIN = ExporterSpec("template-plain", "codes and scales in one file", check, write)

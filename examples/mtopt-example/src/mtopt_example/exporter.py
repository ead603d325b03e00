"""The exporter of this plugin: the dialect `plain`, codes and scales in one safetensors file, the rest in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import save_file

from mtcore.export import Artifact, ExporterSpec
from mtcore.plan import Plan

SPELLINGS = {"fp5_row": "FP5", "int8_row": "I8", "int8": "I8"}
"""Format → its spelling in the dialect; all that it can express."""


def check(plan: Plan) -> Iterator[str]:
    """What of a plan cannot be written, by module."""
    for module in plan.quantized:
        for slot in module.slots:
            if slot.format.name not in SPELLINGS:
                yield (
                    f"{module.name}: the dialect 'plain' has no {slot.format.name} for its {slot.slot}; "
                    f"choose one of {', '.join(SPELLINGS)}, or exclude the module"
                )


def write(artifact: Artifact, directory: Path) -> None:
    """Write `model.safetensors`, `config.json` and the files that came with the model."""
    tensors, spelt = dict(artifact.tensors), {}
    for name, module in artifact.modules.items():
        for parameter, weight in module.weights.items():
            tensors |= {f"{name}.{parameter}.{part}": tensor for part, tensor in weight.tensors().items()}
        for slot, qparams in module.activations.items():
            tensors[f"{name}.{slot}.scale"] = qparams.multiplier()
        spelt[name] = {slot.slot: SPELLINGS[slot.format.name] for slot in module.plan.slots}
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, directory / "model.safetensors")
    config = {**artifact.source.config, "plain": spelt, "tied": dict(artifact.tied)}
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    artifact.source.write_files(directory)


PLAIN = ExporterSpec(
    "plain", "one safetensors file of codes and scales; an example", lambda plan: list(check(plan)), write
)

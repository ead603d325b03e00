"""One model of the benchmark of coverage on disk: its checkpoint, its inputs, and what was written of it."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

SMALL = 8
"""Matrices with fewer rows or columns than this are not counted: routers, gates, rows of constants."""
CODED = {"F8_E4M3", "F8_E5M2", "U8", "I8", "I32"}
"""Types in which a file holds the codes of a weight."""
PACKED = ("weight", "weight_packed")


@dataclass(frozen=True)
class Case:
    """A directory with `source/` (a checkpoint), `inputs.safetensors` and `inputs.json` (plain values)."""

    kind: str
    name: str
    folder: Path

    @property
    def source(self) -> Path:
        return self.folder / "source"

    def save(self, model: nn.Module, inputs: Mapping[str, Any]) -> None:
        """Write the model as transformers does, the inputs, and the names of what nobody would quantize."""
        model.save_pretrained(self.source)
        save_file({k: v.contiguous() for k, v in inputs.items() if isinstance(v, Tensor)}, self._tensors)
        plain = {k: v for k, v in inputs.items() if not isinstance(v, Tensor)}
        self._plain.write_text(json.dumps({"inputs": plain, "left_alone": sorted(_left_alone(model))}))

    def inputs(self) -> dict[str, Any]:
        return {**load_file(self._tensors), **json.loads(self._plain.read_text())["inputs"]}

    def weights(self) -> dict[str, int]:
        """Elements of every weight of the checkpoint that a tool for linear layers and experts should quantize."""
        left_alone = set(json.loads(self._plain.read_text())["left_alone"])
        found = {}
        for name, (_, shape) in headers(self.source).items():
            module, _, leaf = name.rpartition(".")
            matrix = len(shape) == 3 or (len(shape) == 2 and leaf == "weight")
            if matrix and module not in left_alone and min(shape[-2:]) >= SMALL:
                found[name] = torch.Size(shape).numel()
        return found

    @property
    def _tensors(self) -> Path:
        return self.folder / "inputs.safetensors"

    @property
    def _plain(self) -> Path:
        return self.folder / "inputs.json"


def _left_alone(model: nn.Module) -> set[str]:
    """Embeddings, convolutions, norms and the projection on the vocabulary."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return {
        name
        for name, module in model.named_modules()
        if module is head
        or isinstance(module, (nn.Embedding, nn.modules.conv._ConvNd))
        or type(module).__name__.endswith(("Norm", "Embedding"))
    }


def headers(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of every tensor of a checkpoint directory."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping
                piece = tensors.get_slice(name)
                found[name] = (piece.get_dtype(), tuple(piece.get_shape()))
    return found


def judge(case: Case, out: Path, reported: Collection[str] = ()) -> dict[str, Any]:
    """Of the elements that should be quantized: how many have codes, how many are named, and what is silent.

    A file names what it leaves out in its list of ignored modules. A weight whose layout changed (experts that the
    source holds in one tensor) counts as coded where codes lie under the name of its module.

    Args:
        reported: patterns of modules that the tool named to the user, each with a reason.
    """
    written = headers(out)
    coded = [name for name, (kind, _) in written.items() if kind in CODED]
    owners = {name.rpartition(".")[0] for name in coded if name.rpartition(".")[2] in PACKED}
    entries = [*_ignored(out), *reported]
    weights = case.weights()
    ranks = {name: len(shape) for name, (_, shape) in headers(case.source).items()}
    counts = {"coded": 0, "named": 0}
    silent = {}
    for name, size in weights.items():
        module, stacked = name.removesuffix(".weight"), _owner_of_stack(name, ranks[name])
        inside = bool(stacked) and any(owner.startswith(f"{stacked}.") for owner in owners)
        if module in owners or name in coded or inside:
            counts["coded"] += size
        elif any(_matches(entry, owner) for entry in entries for owner in (module, stacked)):
            counts["named"] += size
        else:
            silent[name] = size
    return {
        "weights": sum(weights.values()),
        **counts,
        "silent": sum(silent.values()),
        "silent_names": sorted(silent, key=silent.__getitem__, reverse=True)[:4],
    }


def _owner_of_stack(name: str, rank: int) -> str:
    """The module of a stacked tensor; of one that is a module of its own, the experts beside it; else empty."""
    owner = name.rpartition(".")[0]
    if not name.endswith(".weight"):
        return owner
    return f"{owner.rpartition('.')[0]}.experts" if rank == 3 else ""


def _ignored(out: Path) -> list[str]:
    config = json.loads((out / "config.json").read_text()).get("quantization_config") or {}
    entries = list(config.get("ignore") or []) + list(config.get("exclude_modules") or [])
    beside = out / "hf_quant_config.json"
    if beside.exists():
        entries += json.loads(beside.read_text())["quantization"].get("exclude_modules") or []
    return entries


def _matches(entry: str, module: str) -> bool:
    if entry.startswith("re:"):
        return re.match(entry[3:], module) is not None
    return entry == module or fnmatch.fnmatchcase(module, entry)

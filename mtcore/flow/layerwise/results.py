"""Results of finished units on disk, and the artifact that reads them when it is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtcore.errors import StateError
from mtcore.export import Artifact, QuantizedModule
from mtcore.files import TensorFile, save_tensors
from mtcore.numerics import QParams, QTensor
from mtcore.plan import ModulePlan, Plan

_SCALES = ("scale", "scale_2", "zero_point")


def save_result(path: Path, artifact: Artifact) -> None:
    """Write codes, scales and changed tensors of one unit as one whole safetensors file.

    The name of a tensor is `weights|activations/module/slot/part`, or `tensors/name`; the metadata hold, as JSON,
    what a QTensor knows beside its tensors.
    """
    tensors = {f"tensors/{name}": tensor for name, tensor in artifact.tensors.items()}
    facts: dict[str, dict[str, Any]] = {}
    for name, module in artifact.modules.items():
        facts[name] = {}
        for slot, q in module.weights.items():
            tensors |= {f"weights/{name}/{slot}/{part}": tensor for part, tensor in q.tensors().items()}
            dtype = str(q.dtype).removeprefix("torch.")
            facts[name][slot] = {"rows": q.rows, "cols": q.cols, "shape": list(q.shape), "dtype": dtype}
        for slot, qparams in module.activations.items():
            parts = {part: getattr(qparams, part) for part in _SCALES}
            tensors |= {f"activations/{name}/{slot}/{p}": t for p, t in parts.items() if t is not None}
    save_tensors(path, tensors, tensors, {"modules": json.dumps(facts, sort_keys=True)})


class ResultFile:
    """What `save_result` wrote, read as views of the file.

    Raises:
        StateError: the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._file = TensorFile(path)
        try:
            self._facts: dict[str, dict[str, Any]] = json.loads(self._file.metadata["modules"])
        except (KeyError, ValueError) as error:
            raise StateError(f"{path}: no result of a run ({error})") from error
        self._slots: dict[str, dict[str, list[str]]] = {}
        for name in self._file:
            kind, _, rest = name.partition("/")
            if kind == "activations":
                module, slot, part = rest.split("/")
                self._slots.setdefault(module, {}).setdefault(slot, []).append(part)
        self.modules = frozenset(self._facts)
        self.tensors = frozenset(n.removeprefix("tensors/") for n in self._file if n.startswith("tensors/"))

    def tensor(self, name: str) -> Tensor:
        """A tensor that is not quantized, but was changed."""
        return self._file[f"tensors/{name}"]

    def module(self, planned: ModulePlan) -> QuantizedModule:
        """Codes and scales of one module."""
        weights = {slot: self._weight(planned, slot) for slot in self._facts[planned.name]}
        activations = {
            slot: self._qparams(planned, "activations", slot, parts)
            for slot, parts in self._slots.get(planned.name, {}).items()
        }
        return QuantizedModule(planned, weights, activations)

    def _weight(self, planned: ModulePlan, slot: str) -> QTensor:
        facts, prefix = self._facts[planned.name][slot], f"weights/{planned.name}/{slot}/"
        parts = [part for part in _SCALES if prefix + part in self._file]
        qparams = self._qparams(planned, "weights", slot, parts)
        shape, dtype = torch.Size(facts["shape"]), getattr(torch, facts["dtype"])
        return QTensor(self._file[f"{prefix}qdata"], qparams, facts["rows"], facts["cols"], shape, dtype)

    def _qparams(self, planned: ModulePlan, kind: str, slot: str, parts: Sequence[str]) -> QParams:
        decided = planned.slot(slot.partition(".")[0])
        assert decided is not None, f"{planned.name}: scales of {slot}, which the plan leaves alone"
        return QParams(
            decided.format, **{part: self._file[f"{kind}/{planned.name}/{slot}/{part}"] for part in parts}
        )


class StoredModules(Mapping[str, QuantizedModule]):
    """The quantized modules of a plan, each read when it is asked for."""

    def __init__(self, plan: Plan, files: Sequence[ResultFile]) -> None:
        self._plans = {planned.name: planned for planned in plan.quantized}
        self._files = {name: file for file in files for name in file.modules}

    def __getitem__(self, name: str) -> QuantizedModule:
        return self._files[name].module(self._plans[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._plans)

    def __len__(self) -> int:
        return len(self._plans)


class StoredTensors(Mapping[str, Tensor]):
    """Tensors that stay: those of the original model, but for the ones that a result file has."""

    def __init__(self, original: Mapping[str, Tensor], files: Sequence[ResultFile]) -> None:
        self._original = original
        self._files = {name: file for file in files for name in file.tensors}

    def __getitem__(self, name: str) -> Tensor:
        return self._files[name].tensor(name) if name in self._files else self._original[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._original)

    def __len__(self) -> int:
        return len(self._original)

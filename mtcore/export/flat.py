"""An artifact as named tensors and plain facts, and back: what the files of a run hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtcore.errors import StateError
from mtcore.export.artifact import Artifact, LowRankBranch, QuantizedModule
from mtcore.files import TensorFile, save_tensors
from mtcore.numerics import QParams, QTensor
from mtcore.plan import ModulePlan, Plan

_SCALES = ("scale", "scale_2", "zero_point")

Facts = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Module → parameter → what a QTensor knows beside its tensors: rows, cols, shape and dtype."""


class FlatTensors(Mapping[str, Tensor]):
    """The tensors of an artifact under flat names, taken from it when they are asked for.

    A name is `weights|activations/module/slot/part`, `extras/module/what/part`, or `tensors/name`. `facts` holds
    the rest of the weights.
    """

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self._places: dict[str, tuple[str, ...]] = {
            f"tensors/{name}": ("tensors", name) for name in artifact.tensors
        }
        facts: dict[str, dict[str, dict[str, Any]]] = {}
        for name, module in artifact.modules.items():
            facts[name] = {}
            for slot, q in module.weights.items():
                self._add("weights", name, slot, q.tensors())
                dtype = str(q.dtype).removeprefix("torch.")
                facts[name][slot] = {"rows": q.rows, "cols": q.cols, "shape": list(q.shape), "dtype": dtype}
            for slot, qparams in module.activations.items():
                self._add("activations", name, slot, _scales(qparams))
            for what, parts in _extras(module).items():
                self._add("extras", name, what, parts)
        self.facts: Facts = facts

    def _add(self, *place: Any) -> None:
        kind, module, slot, parts = place
        self._places |= {f"{kind}/{module}/{slot}/{part}": (kind, module, slot, part) for part in parts}

    def __getitem__(self, name: str) -> Tensor:
        kind, owner, *rest = self._places[name]
        if kind == "tensors":
            return self._artifact.tensors[owner]
        slot, part = rest
        module = self._artifact.modules[owner]
        if kind == "extras":
            return _extras(module)[slot][part]
        return (
            module.weights[slot].tensors()[part] if kind == "weights" else _scales(module.activations[slot])[part]
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _scales(qparams: QParams) -> dict[str, Tensor]:
    return {part: tensor for part in _SCALES if (tensor := getattr(qparams, part)) is not None}


def _extras(module: QuantizedModule) -> dict[str, dict[str, Tensor]]:
    """What a module holds beside codes and scales."""
    found: dict[str, dict[str, Tensor]] = {}
    if module.pre_quant_scale is not None:
        found["pre_quant_scale"] = {"scale": module.pre_quant_scale}
    if module.low_rank is not None:
        found["low_rank"] = {"up": module.low_rank.up, "down": module.low_rank.down}
    return found


def save_result(path: Path, artifact: Artifact) -> None:
    """Write codes, scales and changed tensors of one unit as one whole safetensors file; facts are its metadata."""
    tensors = FlatTensors(artifact)
    save_tensors(path, tensors, tensors, {"modules": json.dumps(tensors.facts, sort_keys=True)})


class Results:
    """What `FlatTensors` flattened: modules and tensors by their own names, made when they are asked for.

    Raises:
        StateError: the facts are none.
    """

    def __init__(self, tensors: Mapping[str, Tensor], facts: Facts) -> None:
        self._tensors, self._facts = tensors, facts
        self._slots: dict[str, dict[str, list[str]]] = {}
        for name in tensors:
            kind, _, rest = name.partition("/")
            if kind == "activations":
                module, slot, part = rest.split("/")
                self._slots.setdefault(module, {}).setdefault(slot, []).append(part)
        self.modules = frozenset(facts)
        self.tensors = frozenset(n.removeprefix("tensors/") for n in tensors if n.startswith("tensors/"))

    @classmethod
    def of_file(cls, path: Path) -> Results:
        """What `save_result` wrote, read as views of the file.

        Raises:
            StateError: the file is damaged.
        """
        file = TensorFile(path)
        try:
            return cls(file, json.loads(file.metadata["modules"]))
        except (KeyError, ValueError) as error:
            raise StateError(f"{path}: no result of a run ({error})") from error

    def tensor(self, name: str) -> Tensor:
        """A tensor that is not quantized, but was changed."""
        return self._tensors[f"tensors/{name}"]

    def module(self, planned: ModulePlan) -> QuantizedModule:
        """Codes and scales of one module."""
        weights = {slot: self._weight(planned, slot) for slot in self._facts[planned.name]}
        activations = {
            slot: self._qparams(planned, "activations", slot, parts)
            for slot, parts in self._slots.get(planned.name, {}).items()
        }
        extras = f"extras/{planned.name}/"
        scale = self._tensors[f"{extras}pre_quant_scale/scale"] if planned.pre_quant_scale else None
        branch = None
        if planned.low_rank:
            branch = LowRankBranch(*(self._tensors[f"{extras}low_rank/{part}"] for part in ("up", "down")))
        return QuantizedModule(planned, weights, activations, scale, branch)

    def _weight(self, planned: ModulePlan, slot: str) -> QTensor:
        facts, prefix = self._facts[planned.name][slot], f"weights/{planned.name}/{slot}/"
        parts = [part for part in _SCALES if prefix + part in self._tensors]
        qparams = self._qparams(planned, "weights", slot, parts)
        shape, dtype = torch.Size(facts["shape"]), getattr(torch, facts["dtype"])
        return QTensor(self._tensors[f"{prefix}qdata"], qparams, facts["rows"], facts["cols"], shape, dtype)

    def _qparams(self, planned: ModulePlan, kind: str, slot: str, parts: Sequence[str]) -> QParams:
        decided = planned.slot(slot.partition(".")[0])
        assert decided is not None, f"{planned.name}: scales of {slot}, which the plan leaves alone"
        return QParams(
            decided.format, **{part: self._tensors[f"{kind}/{planned.name}/{slot}/{part}"] for part in parts}
        )


class StoredModules(Mapping[str, QuantizedModule]):
    """The quantized modules of a plan, each read when it is asked for."""

    def __init__(self, plan: Plan, files: Sequence[Results]) -> None:
        self._plans = {planned.name: planned for planned in plan.quantized}
        self._files = {name: file for file in files for name in file.modules}

    def __getitem__(self, name: str) -> QuantizedModule:
        return self._files[name].module(self._plans[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._plans)

    def __len__(self) -> int:
        return len(self._plans)


class StoredTensors(Mapping[str, Tensor]):
    """Tensors that stay: the results', and those of the original model that no result has."""

    def __init__(self, original: Mapping[str, Tensor], files: Sequence[Results]) -> None:
        self._original = original
        self._files = {name: file for file in files for name in file.tensors}
        self._names = dict.fromkeys((*original, *self._files))

    def __getitem__(self, name: str) -> Tensor:
        return self._files[name].tensor(name) if name in self._files else self._original[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

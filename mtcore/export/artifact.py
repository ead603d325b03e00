"""The neutral result of a run: codes and scales of every quantized tensor, all others as they are, and the plan."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mtcore.numerics import QParams, QTensor
from mtcore.plan.plan import ModulePlan, Plan


@dataclass(frozen=True)
class LowRankBranch:
    """The part of a weight that is not quantized: W ≈ dequantized codes + up · down.

    Attributes:
        up: [rows, rank], of a 16-bit type.
        down: [rank, cols], likewise.
    """

    up: Tensor
    down: Tensor


@dataclass(frozen=True)
class QuantizedModule:
    """One quantized module.

    Attributes:
        plan: its decision; knows the format and mode of each slot.
        weights: codes and scales by parameter name; of a parameter that stacks one matrix an expert, each matrix
            under `<parameter>.<expert>`, with its output channels as rows.
        activations: calibrated scales by slot; a dynamic slot has no entry. In mode `dynamic_blocks` only the
            `scale_2` of the entry is meant to be stored.
        pre_quant_scale: fp32 [cols]; the layer multiplies the columns of its input by it, before they are rounded
            and before a branch reads them. The codes are those of the weight whose columns are divided by it. None
            where there is none; see `ModulePlan.pre_quant_scale`.
        low_rank: what is added to the dequantized weight; None where there is none, see `ModulePlan.low_rank`.
    """

    plan: ModulePlan
    weights: Mapping[str, QTensor]
    activations: Mapping[str, QParams]
    pre_quant_scale: Tensor | None = None
    low_rank: LowRankBranch | None = None


@dataclass(frozen=True)
class SourceFiles:
    """What came with the weights and must go with them: the model's configuration, and files to copy unchanged.

    Attributes:
        config: the model's configuration as JSON-able values (config.json of a Hugging Face checkpoint).
        files: file name → path of a file that is copied (tokenizer, chat template, generation settings).
        texts: file name → content of a file that is written (a tokenizer that was rebuilt).
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    def write_files(self, directory: Path) -> None:
        """Put files and texts into a directory; `config` is left to the exporter, which adds to it.

        Raises:
            OSError: the disk is full, say.
        """
        for name in (*self.files, *self.texts):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
        for name, path in self.files.items():
            shutil.copyfile(path, directory / name)
        for name, text in self.texts.items():
            (directory / name).write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Artifact:
    """A quantized model as plain data; what an exporter reads, never a live module.

    Attributes:
        plan: what was done.
        modules: quantized modules by dotted name.
        tensors: every other tensor of the state dict by name; tensors that share storage stand once, under
            the name that the model's state dict lists first.
        tied: name of a tensor that is left out → name of the one whose storage it shares.
        source: configuration and files of the original checkpoint.
    """

    plan: Plan
    modules: Mapping[str, QuantizedModule]
    tensors: Mapping[str, Tensor]
    tied: Mapping[str, str] = field(default_factory=dict)
    source: SourceFiles = field(default_factory=SourceFiles)

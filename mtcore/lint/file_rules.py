"""The built-in rules: files that are whole, names that stay in the directory, an index that tells the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mtcore.lint.checkpoint import Checkpoint
from mtcore.lint.spec import EVERYONE, Hit, RuleSpec, Severity

_SUMMARIES: dict[str, tuple[str, Severity]] = {
    "weights-missing": ("there are safetensors files", "error"),
    "weights-pickle": ("weights are no pickle files", "error"),
    "file-missing": ("every file that the index names is there", "error"),
    "file-truncated": ("no file is cut short", "error"),
    "header-too-large": ("the header of a file has a size that can be", "error"),
    "header-damaged": ("the header of a file is JSON with dtype, shape and offsets of every tensor", "error"),
    "dtype-unknown": ("every dtype is one of safetensors", "error"),
    "tensor-offsets": ("the data of a file are its tensors, without holes and overlaps", "error"),
    "tensor-duplicate": ("a tensor lies in one place only", "error"),
    "index-wrong": ("the index names the file that holds a tensor", "error"),
    "index-incomplete": ("the index lists every tensor", "warning"),
    "path-outside": ("the index names files of the directory", "error"),
    "link-outside": ("no file is a link that leaves the directory", "error"),
    "json-unreadable": ("every JSON file is an object", "error"),
    "shards-left-over": ("there are no safetensors files beside those of the index", "warning"),
}


def file_rules() -> Iterator[RuleSpec]:
    """One rule for each kind of `Fault`; all clients stumble over these alike."""
    for kind, (summary, severity) in _SUMMARIES.items():
        yield RuleSpec(kind, summary, {EVERYONE: severity}, _faults_of(kind))


def _faults_of(kind: str) -> Callable[[Checkpoint], Iterator[Hit]]:
    def check(checkpoint: Checkpoint) -> Iterator[Hit]:
        for fault in checkpoint.faults:
            if fault.kind == kind:
                yield Hit(fault.where, fault.why, fault.todo)

    return check

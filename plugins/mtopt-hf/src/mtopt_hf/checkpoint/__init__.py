"""What all dialects of a Hugging Face checkpoint share: names, matrices, checks and the writer."""

from mtopt_hf.checkpoint.dialect import Contents, Description, Dialect
from mtopt_hf.checkpoint.layer import Layer, LayerValues
from mtopt_hf.checkpoint.pairs import Pair, pairs_of
from mtopt_hf.checkpoint.problems import plan_problems
from mtopt_hf.checkpoint.writer import (
    apart_notes,
    apart_problems,
    checkpoint_tensors,
    source_problems,
    write_checkpoint,
)

__all__ = [
    "Contents",
    "Description",
    "Dialect",
    "Layer",
    "LayerValues",
    "Pair",
    "apart_notes",
    "apart_problems",
    "checkpoint_tensors",
    "pairs_of",
    "plan_problems",
    "source_problems",
    "write_checkpoint",
]

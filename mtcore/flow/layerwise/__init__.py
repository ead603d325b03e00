"""Quantize a checkpoint block by block: in bounded memory, and so that a killed run goes on where it was."""

from mtcore.flow.layerwise.directory import is_unfinished, run_place
from mtcore.flow.layerwise.options import LayerwiseOptions
from mtcore.flow.layerwise.run import quantize_blocks

__all__ = ["LayerwiseOptions", "is_unfinished", "quantize_blocks", "run_place"]

"""Quantize a model in memory: convert, calibrate, save and load."""

from mtcore.quantization.convert import convert
from mtcore.quantization.journal import Journal

__all__ = ["Journal", "convert"]

"""Quantized checkpoints in transformers: opened as models that mtcore quantized, trained, and saved again."""

from mtopt_hf.quantizer.config import MtcoreConfig
from mtopt_hf.quantizer.hf_quantizer import MtcoreQuantizer
from mtopt_hf.quantizer.register import register, registered

__all__ = ["MtcoreConfig", "MtcoreQuantizer", "register", "registered"]

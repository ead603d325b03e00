"""Making transformers open quantized checkpoints with mtcore: for a while, or for the rest of the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.quantizers import auto

from mtopt_hf.quantizer.config import MtcoreConfig
from mtopt_hf.quantizer.hf_quantizer import MtcoreQuantizer

METHODS = ("compressed-tensors",)
"""The `quant_method` of config.json for which transformers will ask us."""


def register() -> None:
    """From now on `from_pretrained` opens these checkpoints as models that mtcore quantized.

    transformers' own reader of the same checkpoints is put aside: it computes from float weights, knows no NVFP4
    experts, and cannot train. Nothing else of transformers changes.
    """
    for method in METHODS:
        auto.AUTO_QUANTIZATION_CONFIG_MAPPING[method] = MtcoreConfig
        auto.AUTO_QUANTIZER_MAPPING[method] = MtcoreQuantizer


@contextmanager
def registered() -> Iterator[None]:
    """The same while the context is open; afterwards transformers is as it was."""
    configs, quantizers = dict(auto.AUTO_QUANTIZATION_CONFIG_MAPPING), dict(auto.AUTO_QUANTIZER_MAPPING)
    register()
    try:
        yield
    finally:
        auto.AUTO_QUANTIZATION_CONFIG_MAPPING.clear()
        auto.AUTO_QUANTIZATION_CONFIG_MAPPING.update(configs)
        auto.AUTO_QUANTIZER_MAPPING.clear()
        auto.AUTO_QUANTIZER_MAPPING.update(quantizers)

"""Fast paths: fused kernels of torch's transformer layers that read weights past the layers that hold them."""

from __future__ import annotations

from torch import nn

from mtcore.nn import QuantModule
from mtcore.nn.walk import modules_of
from mtcore.quantization.journal import Journal

_CLOSED: tuple[tuple[type[nn.Module], str, object], ...] = (
    (nn.TransformerEncoderLayer, "activation_relu_or_gelu", 0),
    (nn.TransformerEncoder, "use_nested_tensor", False),
)
"""Class, attribute, and the value with which its forward takes the ordinary way; it has no other effect."""


def close_fast_paths(model: nn.Module, journal: Journal) -> None:
    """Make every transformer layer that holds a quantized module call its parts; written down in the journal."""
    for module in modules_of(model):
        for kind, attribute, closed in _CLOSED:
            if isinstance(module, kind) and any(isinstance(part, QuantModule) for part in modules_of(module)):
                journal.set_attribute(module, attribute, closed)

"""MtcoreConfig: the configuration of a quantized checkpoint as it stands in config.json, and how to open it."""

from __future__ import annotations

import copy
from typing import Any, Literal

from transformers import CompressedTensorsConfig

from mtcore.errors import ModelError

Modules = Literal["fake", "packed"]
MODULES = ("fake", "packed")


class MtcoreConfig(CompressedTensorsConfig):
    """What to pass to `from_pretrained`, and what a model that was opened so carries.

    Attributes:
        modules: "fake" gives float weights that are rounded in every forward, for training and evaluation; "packed"
            gives layers that hold codes and scales only, for inference in less memory.
        content: the `quantization_config` of the checkpoint; it is written back unchanged.
    """

    def __init__(self, modules: Modules = "fake", **content: Any) -> None:
        if modules not in MODULES:
            raise ModelError(f"modules {modules!r}: there are {' and '.join(MODULES)}")
        self.modules = modules
        self.content = content
        self.quant_method = content.get("quant_method", "compressed-tensors")
        self.dequantize = False

    def to_dict(self) -> dict[str, Any]:
        return copy.deepcopy(self.content)

    def to_diff_dict(self) -> dict[str, Any]:
        return self.to_dict()

    def get_loading_attributes(self) -> dict[str, Any]:
        """What a configuration that is given to `from_pretrained` changes about the checkpoint's own."""
        return {"modules": self.modules}

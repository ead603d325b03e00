"""mtcore: quantize any PyTorch model for the runtime that serves it.

The facade. A name is imported when it is first used, so that `import mtcore` and `mtopt --help` stay quick.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtcore.flow import export
    from mtcore.plugins import Registry
    from mtcore.quantization import calibrate, load, quantize, save, undo
    from mtcore.quantization import plan_model as plan
    from mtcore.quantization import trace_model as trace

_HOMES = {
    "Registry": ("mtcore.plugins", "Registry"),
    "calibrate": ("mtcore.quantization", "calibrate"),
    "export": ("mtcore.flow", "export"),
    "load": ("mtcore.quantization", "load"),
    "plan": ("mtcore.quantization", "plan_model"),
    "quantize": ("mtcore.quantization", "quantize"),
    "save": ("mtcore.quantization", "save"),
    "trace": ("mtcore.quantization", "trace_model"),
    "undo": ("mtcore.quantization", "undo"),
}

__all__ = ["Registry", "calibrate", "export", "load", "plan", "quantize", "save", "trace", "undo"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("mtcore")
    if name not in _HOMES:
        raise AttributeError(f"module 'mtcore' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)

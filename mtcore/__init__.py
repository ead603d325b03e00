"""mtcore: quantize any PyTorch model for the runtime that serves it.

The facade. A name is imported when it is first used, so that `import mtcore` and `mtopt --help` stay quick; a verb
that is also the name of a room (mtcore.trace, mtcore.plan, mtcore.export) has "_model" behind it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtcore.flow import export_model
    from mtcore.plugins import Registry
    from mtcore.quantization import calibrate, load, plan_model, quantize, save, summary_of, trace_model, undo

_HOMES = {
    "Registry": "mtcore.plugins",
    "calibrate": "mtcore.quantization",
    "export_model": "mtcore.flow",
    "load": "mtcore.quantization",
    "plan_model": "mtcore.quantization",
    "quantize": "mtcore.quantization",
    "save": "mtcore.quantization",
    "summary_of": "mtcore.quantization",
    "trace_model": "mtcore.quantization",
    "undo": "mtcore.quantization",
}

__all__ = [
    "Registry",
    "calibrate",
    "export_model",
    "load",
    "plan_model",
    "quantize",
    "save",
    "summary_of",
    "trace_model",
    "undo",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("mtcore")
    if name not in _HOMES:
        raise AttributeError(f"module 'mtcore' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

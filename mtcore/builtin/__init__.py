"""What mtcore brings itself: one plugin, made of the same hooks as anybody's. Its hooks import their rooms."""

from mtcore.builtin.calibration import mtcore_algorithms
from mtcore.builtin.exporters import mtcore_exporters
from mtcore.builtin.formats import mtcore_formats
from mtcore.builtin.kernels import mtcore_kernels
from mtcore.builtin.layers import mtcore_quant_modules
from mtcore.builtin.lint import mtcore_lint_rules
from mtcore.builtin.recipes import mtcore_recipes
from mtcore.builtin.search import mtcore_searchers
from mtcore.builtin.trace import mtcore_symbols, mtcore_trace_model, mtcore_trace_rules

MTCORE_HOOK_API = "0.1"

__all__ = [
    "MTCORE_HOOK_API",
    "mtcore_algorithms",
    "mtcore_exporters",
    "mtcore_formats",
    "mtcore_kernels",
    "mtcore_lint_rules",
    "mtcore_quant_modules",
    "mtcore_recipes",
    "mtcore_searchers",
    "mtcore_symbols",
    "mtcore_trace_model",
    "mtcore_trace_rules",
]

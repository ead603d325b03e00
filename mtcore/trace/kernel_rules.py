"""Rules for custom kernels, one line each: what a kernel computes, as the `run` of a `TraceRuleSpec`."""

from mtcore.trace.rules.attention import attention
from mtcore.trace.rules.elementwise import pointwise
from mtcore.trace.rules.moves import move
from mtcore.trace.rules.norms import norm
from mtcore.trace.rules.products import grouped_matmul
from mtcore.trace.rules.scans import scan

__all__ = ["attention", "grouped_matmul", "move", "norm", "pointwise", "scan"]

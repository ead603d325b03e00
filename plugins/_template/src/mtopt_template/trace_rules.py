"""An operation of the plugin's own, and what it does to scales and channels."""

from __future__ import annotations

import torch
from torch import Tensor

from mtcore.trace import TraceRuleSpec
from mtcore.trace.kernel_rules import pointwise


@torch.library.custom_op("mtopt_template::leaky", mutates_args=())
def leaky(x: Tensor) -> Tensor:
    """max(x, x / 8). Yours is the kernel that models call."""
    return torch.maximum(x, x * 0.125)


@leaky.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


LEAKY = TraceRuleSpec("mtopt_template::leaky", pointwise(homogeneous=True))
"""f(s x) = s f(x) for s > 0, so scales pass through it."""

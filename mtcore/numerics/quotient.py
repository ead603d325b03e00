"""Division by a number, correctly rounded on every device."""

from __future__ import annotations

import torch
from torch import Tensor


def quotient(x: Tensor, number: float) -> Tensor:
    """x / number in fp32.

    On a GPU torch multiplies by the rounded reciprocal of a Python number, which is now and then off by one unit in
    the last place; by a tensor it divides.

    Example:
        >>> quotient(torch.tensor([448.0]), 448.0)
        tensor([1.])
    """
    return x / torch.full((), number, dtype=torch.float32, device=x.device)

"""Comparing tensors bit for bit, with a message that shows the first element that differs."""

from __future__ import annotations

import torch
from torch import Tensor


def same_bits(actual: Tensor, expected: Tensor) -> Tensor:
    """Where two tensors of one shape and dtype hold the same bits; any NaN equals any NaN. Bool, their shape.

    Example:
        >>> same_bits(torch.tensor([0.0, torch.nan]), torch.tensor([-0.0, torch.nan]))
        tensor([False,  True])
    """
    as_int = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[actual.element_size()]
    equal = actual.contiguous().view(as_int) == expected.contiguous().view(as_int)
    if actual.is_floating_point():
        equal |= actual.float().isnan() & expected.float().isnan()
    return equal


def assert_same_bits(actual: Tensor, expected: Tensor, what: str) -> None:
    """Fail unless two tensors agree in shape, dtype and every bit.

    Raises:
        AssertionError: `what`, and the first element that differs.

    Example:
        >>> assert_same_bits(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.5]]), "the weight")
        Traceback (most recent call last):
        AssertionError: the weight: first differing element [0, 1] is 2.0, expected 2.5 (1 of 2 differ)
    """
    assert actual.shape == expected.shape, f"{what}: shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    assert actual.dtype == expected.dtype, f"{what}: dtype {actual.dtype}, expected {expected.dtype}"
    differs = ~same_bits(actual, expected)
    count = int(differs.sum())
    if count:
        place = tuple(differs.nonzero()[0].tolist())
        raise AssertionError(
            f"{what}: first differing element {list(place)} is {actual[place].item()}, "
            f"expected {expected[place].item()} ({count} of {differs.numel()} differ)"
        )

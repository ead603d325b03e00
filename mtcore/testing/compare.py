"""Comparing tensors bit for bit, and expecting errors, with messages that say what was wanted and what came."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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


def assert_within_ulps(actual: Tensor, expected: Tensor, ulps: int, what: str) -> None:
    """Fail unless two fp32 tensors differ by at most `ulps` units in the last place; zeros of both signs are equal.

    Raises:
        AssertionError: `what`, and the element that differs most.

    Example:
        >>> assert_within_ulps(torch.ones(1), torch.nextafter(torch.ones(1), torch.zeros(1)), 1, "the weight")
    """
    assert actual.shape == expected.shape, f"{what}: shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    assert actual.dtype == expected.dtype == torch.float32, f"{what}: {actual.dtype} and {expected.dtype}, not fp32"
    assert torch.equal(actual.isnan(), expected.isnan()), f"{what}: NaNs in different places"
    distance = (_ordered(actual) - _ordered(expected)).abs().masked_fill(expected.isnan(), 0)
    if distance.numel() and int(distance.max()) > ulps:
        place = tuple((distance == distance.max()).nonzero()[0].tolist())
        raise AssertionError(
            f"{what}: element {list(place)} is {actual[place].item()}, expected {expected[place].item()}: "
            f"{int(distance.max())} units in the last place apart, allowed are {ulps}"
        )


@contextmanager
def must_raise(error: type[Exception], why: str, says: str = "") -> Iterator[None]:
    """Fail unless the body raises this error, with `says` in its message; another one comes through.

    Raises:
        AssertionError: the body raised nothing, or said something else; `why` tells what it must.

    Example:
        >>> with must_raise(ValueError, "an empty list has no largest"):
        ...     max([0])
        Traceback (most recent call last):
        AssertionError: no ValueError was raised: an empty list has no largest
    """
    try:
        yield
    except error as raised:
        if says not in str(raised):
            raise AssertionError(f"the {error.__name__} does not say {says!r} ({why}): {raised}") from raised
        return
    raise AssertionError(f"no {error.__name__} was raised: {why}")


def _ordered(x: Tensor) -> Tensor:
    """int64 that count the fp32 numbers in order; both zeros are 0."""
    bits = x.contiguous().view(torch.int32).long()
    return torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)

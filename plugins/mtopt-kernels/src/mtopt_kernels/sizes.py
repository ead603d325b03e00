"""Sizes in whole numbers. Triton's own helpers are kernels' functions, and slow to call from Python."""

from __future__ import annotations

LONGEST_INNER = 2**17
"""Columns whose products of codes, 2^14 at most, add up to 2^31, the first sum that int32 cannot hold."""


def cdiv(a: int, b: int) -> int:
    """a / b, rounded up.

    Example:
        >>> cdiv(7, 2), cdiv(8, 2)
        (4, 4)
    """
    return -(-a // b)


def power_of_two(number: int) -> int:
    """The least power of two that is not below a positive number.

    Example:
        >>> power_of_two(1), power_of_two(5), power_of_two(8)
        (1, 8, 8)
    """
    return 1 << (number - 1).bit_length()

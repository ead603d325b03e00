"""Hadamard matrices and their fast product, in plain torch."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from mtcore.errors import FormatError
from mtcore.numerics.compiling import compile_time_constant

_LARGEST_BASE = 256
"""Paley matrices above this size would make the product slower than it is worth; none is tried."""


def hadamard_transform(x: Tensor, *, inverse: bool = False) -> Tensor:
    """Multiply the last axis by the orthonormal Hadamard matrix of its size, x · H / sqrt(n), or by its inverse.

    Sizes are 2^k · m, where m is 1 or a multiple of four for which Paley's construction gives a matrix (12, 20,
    24, 28, …). H is the Kronecker product of Sylvester's matrix of size 2^k and Paley's of size m. The cost is
    n · (k + m) additions a row.

    Args:
        x: [..., n], float; computed in its dtype.
        inverse: multiply by the transpose, which is the inverse.

    Raises:
        FormatError: no such matrix is known here for this size.

    Example:
        >>> hadamard_transform(torch.tensor([1.0, 0, 0, 0]))
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """
    n = x.shape[-1]
    power, base = _factors(n)
    y = x.reshape(-1, power, base)
    if base > 1:
        matrix = torch.tensor(_paley(base), dtype=x.dtype, device=x.device)
        with torch.autocast(x.device.type, enabled=False):
            y = y @ (matrix.T if inverse else matrix)
    half = 1
    while half < power:  # one butterfly: pairs of rows `half` apart become their sum and difference
        pairs = y.reshape(-1, power // (2 * half), 2, half, base)
        first, second = pairs[:, :, 0], pairs[:, :, 1]
        y = torch.stack((first + second, first - second), dim=2).reshape(-1, power, base)
        half *= 2
    return (y * (1 / math.sqrt(n))).reshape(x.shape)


def block_hadamard(x: Tensor, size: int, *, inverse: bool = False) -> Tensor:
    """`hadamard_transform` of every stretch of `size` elements of the last axis.

    Raises:
        FormatError: `size` does not divide the axis, or has no matrix.
    """
    if x.shape[-1] % size:
        raise FormatError(f"a Hadamard rotation in blocks of {size} does not divide {x.shape[-1]} features")
    return hadamard_transform(x.reshape(*x.shape[:-1], -1, size), inverse=inverse).flatten(-2)


def largest_hadamard_block(features: int) -> int:
    """The largest size that divides `features` and has a matrix: for layers whose width has none.

    Example:
        >>> largest_hadamard_block(4096), largest_hadamard_block(14336), largest_hadamard_block(11008)
        (4096, 14336, 256)
    """
    for size in range(features, 0, -1):
        if features % size == 0 and _find_factors(size) is not None:
            return size
    raise AssertionError("1 divides everything")


@compile_time_constant
def _factors(n: int) -> tuple[int, int]:
    """n as (power of two, Paley size or 1)."""
    found = _find_factors(n)
    if found is None:
        raise FormatError(
            f"no Hadamard matrix of size {n} is known here; rotate in blocks of {largest_hadamard_block(n)}"
        )
    return found


@lru_cache(maxsize=256)
def _find_factors(n: int) -> tuple[int, int] | None:
    power = n & -n
    if power == n:
        return n, 1
    odd = n // power
    base = odd * 4
    while base <= _LARGEST_BASE and power >= base // odd:
        if _paley_prime(base) is not None:
            return n // base, base
        base *= 2
    return None


def _paley_prime(size: int) -> tuple[int, bool] | None:
    """(q, symmetric): size = q + 1 for a prime q = 3 mod 4, or size = 2 (q + 1) for a prime q = 1 mod 4."""
    if _is_prime(size - 1) and (size - 1) % 4 == 3:
        return size - 1, False
    q = size // 2 - 1
    if size % 4 == 0 and _is_prime(q) and q % 4 == 1:
        return q, True
    return None


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))


@compile_time_constant
def _paley(size: int) -> tuple[tuple[float, ...], ...]:
    return _paley_matrix(size)


@lru_cache(maxsize=32)
def _paley_matrix(size: int) -> tuple[tuple[float, ...], ...]:
    """A Hadamard matrix of ±1 by Paley's construction (R. Paley, 1933, "On orthogonal matrices")."""
    found = _paley_prime(size)
    assert found is not None
    q, symmetric = found
    squares = {i * i % q for i in range(1, q)}
    character = torch.tensor([0 if i == 0 else 1 if i in squares else -1 for i in range(q)])
    index = torch.arange(q)
    residues = character[(index[:, None] - index[None, :]) % q]
    core = torch.zeros(q + 1, q + 1, dtype=torch.long)
    core[0, 1:] = 1
    core[1:, 0] = 1 if symmetric else -1
    core[1:, 1:] = residues
    unit = torch.eye(q + 1, dtype=torch.long)
    if symmetric:
        plus, minus = torch.tensor([[1, 1], [1, -1]]), torch.tensor([[1, -1], [-1, -1]])
        matrix = torch.kron(core, plus) + torch.kron(unit, minus)
    else:
        matrix = core + unit
    return tuple(tuple(float(v) for v in row) for row in matrix.tolist())

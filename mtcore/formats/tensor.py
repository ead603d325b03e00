"""Tensor formats: an element, plus how its scales are shared over a matrix. No torch here.

Every format speaks of a matrix [rows, cols]. A weight [out, in, …] is viewed as [out, in·…], an activation
[…, features] as [tokens, features]; so "per channel" and "per token" are the same statement: one scale a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mtcore.errors import FormatError
from mtcore.formats.element import (
    CodedElement,
    Element,
    Float32Element,
    IntElement,
)

WHOLE = -1
"""The whole extent of an axis, whatever its size."""


@dataclass(frozen=True)
class Block:
    """The part of a matrix that shares one scale: `rows` × `cols` elements; WHOLE is the full axis.

    Example:
        >>> str(Block(1, 16)), str(Block(WHOLE, WHOLE)), Block(1, 16).grid(4, 40)
        ('1x16', 'tensor', (4, 3))
    """

    rows: int
    cols: int

    def __post_init__(self) -> None:
        for extent in (self.rows, self.cols):
            if extent != WHOLE and extent < 1:
                raise FormatError(f"a block of {self.rows}x{self.cols} elements: extents are ≥ 1 or WHOLE")

    def __str__(self) -> str:
        named = {(WHOLE, WHOLE): "tensor", (1, WHOLE): "row"}
        return named.get((self.rows, self.cols), f"{self.rows}x{self.cols}")

    def extents(self, rows: int, cols: int) -> tuple[int, int]:
        """The block's size on a matrix of `rows` × `cols`, WHOLE resolved."""
        return (rows if self.rows == WHOLE else self.rows, cols if self.cols == WHOLE else self.cols)

    def grid(self, rows: int, cols: int) -> tuple[int, int]:
        """How many scales a matrix of `rows` × `cols` has along each axis; an edge block may be partial."""
        high, wide = self.extents(rows, cols)
        return (-(-rows // high) if high else 0, -(-cols // wide) if wide else 0)


PER_TENSOR = Block(WHOLE, WHOLE)
PER_ROW = Block(1, WHOLE)

ScaleRounding = Literal["nearest", "up", "floor", "half_up"]
"""How a scale is rounded into its element. For powers of two: `up` never saturates the block maximum (NVIDIA);
`floor` is the OCP MX rule floor(log2(amax)) - emax; `half_up` is compressed-tensors' rule, which rounds amax
to the next power of two from a mantissa of 1.75 on and then applies `floor`."""


@dataclass(frozen=True)
class Scale:
    """One level of scales: their element type, the block that shares one, and two conventions.

    `zero_block`: the scale of a block that holds only zeros. `smallest`: the least value that a scale is clamped
    to (None: not clamped), for elements whose zero would lose the whole block.
    """

    element: Element
    block: Block
    rounding: ScaleRounding = "nearest"
    zero_block: float = 1.0
    smallest: float | None = None

    def __str__(self) -> str:
        return f"{self.element.name} per {self.block}"


@dataclass(frozen=True)
class TensorFormat:
    """How a matrix is stored: `x ≈ (qdata - zero_point) · scale · scale_2`.

    `scales` go from the finest to the coarsest level; the second is called `scale_2`. `amax_to` is the element
    value on which a block's largest magnitude lands (the element's maximum where None); tools differ here, for
    instance 127 or 127.5 for INT8. `zero_point` (asymmetric formats) is the integer element of the offset; such a
    format maps [min, max] instead of [-amax, amax].

    Raises:
        FormatError: the fields contradict each other.
    """

    name: str
    element: CodedElement
    scales: tuple[Scale, ...]
    amax_to: float | None = None
    zero_point: IntElement | None = None
    aliases: tuple[str, ...] = ()
    summary: str = ""

    def __post_init__(self) -> None:
        where = f"format {self.name!r}"
        if not 1 <= len(self.scales) <= 2:
            raise FormatError(f"{where}: {len(self.scales)} levels of scales; one or two are supported")
        if len(self.scales) == 2:
            if not isinstance(self.scales[1].element, Float32Element):
                raise FormatError(f"{where}: the outer scale is {self.scales[1].element.name}; it must be fp32")
            if isinstance(self.scales[0].element, Float32Element):
                raise FormatError(f"{where}: an fp32 inner scale needs no outer one")
        if self.zero_point is not None and (not isinstance(self.element, IntElement) or len(self.scales) == 2):
            raise FormatError(f"{where}: a zero point goes with integers and one level of scales")
        if self.amax_to is not None and not self.amax_to > 0:
            raise FormatError(f"{where}: amax_to is {self.amax_to}; it must be positive")

    @property
    def inner(self) -> Scale:
        """The finest level of scales."""
        return self.scales[0]

    @property
    def outer(self) -> Scale | None:
        """The second level of scales, or None."""
        return self.scales[1] if len(self.scales) == 2 else None

    @property
    def target(self) -> float:
        """The element value on which a block's amax lands."""
        return self.element.max if self.amax_to is None else self.amax_to

    @property
    def outer_target(self) -> float:
        """What the tensor's amax is divided by to give the outer scale: target × largest inner scale."""
        return self.target * self.inner.element.max

    @property
    def symmetric(self) -> bool:
        return self.zero_point is None

    @property
    def block(self) -> Block:
        return self.inner.block

    @property
    def needs_tensor_amax(self) -> bool:
        """Whether quantizing needs one statistic of the whole tensor, so that it can be calibrated."""
        return self.outer is not None or self.block == PER_TENSOR

    @property
    def bits_per_element(self) -> float:
        """Stored bits an element on a large matrix: the codes plus the share of block scales and zero points.

        Scales per tensor or per row vanish on a large matrix and count as nothing.
        """
        bits = float(self.element.bits)
        if WHOLE not in (self.block.rows, self.block.cols):
            size = self.block.rows * self.block.cols
            bits += self.inner.element.bits / size
            bits += self.zero_point.bits / size if self.zero_point else 0.0
        return bits

    def __str__(self) -> str:
        scales = ", ".join(map(str, self.scales))
        return f"{self.name}: {self.element.name}, scale {scales}"

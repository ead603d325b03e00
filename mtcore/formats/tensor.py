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
    FloatElement,
    IntElement,
    PowerOfTwoElement,
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
"""How a scale is rounded into its element: `nearest` for floats, one of the other three for powers of two.

`up`: the least power of two that keeps amax / scale ≤ amax_to, so that no block maximum saturates (NVIDIA).
`floor`: 2^(floor(log2(amax)) - emax), the rule of the OCP MX specification, section 6.3; maxima may saturate.
`half_up`: `floor` after amax went up to the next power of two if its mantissa is at least `round_up_from`
(compressed-tensors).
"""


@dataclass(frozen=True)
class Scale:
    """One level of scales: their element type, the block that shares one, and the conventions that tools differ in.

    `zero_block`: the scale of a block that holds only zeros. `smallest`: the least value that a scale is clamped
    to (None: not clamped), for elements whose zero would lose the whole block. `round_up_from`: see `half_up`.

    Raises:
        FormatError: a rounding rule that the element does not have.
    """

    element: Element
    block: Block
    rounding: ScaleRounding = "nearest"
    zero_block: float = 1.0
    smallest: float | None = None
    round_up_from: float = 1.75

    def __post_init__(self) -> None:
        if isinstance(self.element, PowerOfTwoElement) == (self.rounding == "nearest"):
            raise FormatError(
                f"a scale in {self.element.name} rounded {self.rounding!r}: powers of two are rounded up, floor or "
                "half_up, all other elements nearest"
            )

    def __str__(self) -> str:
        return f"{self.element.name} per {self.block}"


@dataclass(frozen=True)
class TensorFormat:
    """How a matrix is stored: `x ≈ (qdata - zero_point) · scale · scale_2`.

    A two-stage format has a `via` element and stores `x ≈ via(qdata · scale / scale_2) · scale_2`: what the codes
    mean is rounded once more, into the element in which the matrix is multiplied.

    Attributes:
        name: unique in a registry.
        element: of the stored codes.
        scales: from the finest to the coarsest level, one or two; the second is called `scale_2`.
        amax_to: the element value on which a block's largest magnitude lands (None: the element's maximum). Tools
            differ here: 127 or 127.5 for INT8, 7 or 7.5 for INT4.
        zero_point: the integer element of the offset in asymmetric formats, which map [min, max] and not
            [-amax, amax]; zero is always one of their values.
        outer_amax_to: the value of code · scale on which the tensor's largest magnitude lands (None: the largest
            product, or the largest value of `via`).
        via: the element of the second stage, or None.
        aliases: other names of the same format.
        summary: one line for listings.

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
    outer_amax_to: float | None = None
    via: FloatElement | None = None

    def __post_init__(self) -> None:
        where = f"format {self.name!r}"
        if not 1 <= len(self.scales) <= 2:
            raise FormatError(f"{where}: {len(self.scales)} levels of scales; one or two are supported")
        if len(self.scales) == 2:
            if not isinstance(self.scales[1].element, Float32Element):
                raise FormatError(f"{where}: the outer scale is {self.scales[1].element.name}; it must be fp32")
            if isinstance(self.scales[0].element, Float32Element) and self.via is None:
                raise FormatError(f"{where}: an fp32 inner scale needs no outer one without a second stage")
        elif self.via is not None or self.outer_amax_to is not None:
            raise FormatError(f"{where}: a second stage and outer_amax_to need an outer scale")
        if self.zero_point is not None and (not isinstance(self.element, IntElement) or len(self.scales) == 2):
            raise FormatError(f"{where}: a zero point goes with integers and one level of scales")
        if self.zero_point is not None and not isinstance(self.scales[0].element, Float32Element):
            raise FormatError(f"{where}: a zero point goes with fp32 scales, not {self.scales[0].element.name}")
        for field, value in (("amax_to", self.amax_to), ("outer_amax_to", self.outer_amax_to)):
            if value is not None and not value > 0:
                raise FormatError(f"{where}: {field} is {value}; it must be positive")

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
        """What the tensor's amax is divided by to give the outer scale.

        Example:
            >>> from mtcore.formats.catalog import NVFP4
            >>> NVFP4.outer_target  # 6 · 448
            2688.0
        """
        if self.outer_amax_to is not None:
            return self.outer_amax_to
        return self.target * self.inner.element.max if self.via is None else self.via.max

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

    def stored_bits(self, rows: int, cols: int) -> int:
        """Bits of a matrix [rows, cols]: its codes, all levels of scales, and zero points.

        Example:
            >>> from mtcore.formats.catalog import NVFP4
            >>> NVFP4.stored_bits(4, 40)  # 160 codes of 4 bits, 4 x 3 scales of 8, one of 32
            768
        """
        bits = rows * cols * self.element.bits
        for scale in self.scales:
            high, wide = scale.block.grid(rows, cols)
            bits += high * wide * scale.element.bits
        if self.zero_point is not None:
            high, wide = self.block.grid(rows, cols)
            bits += high * wide * self.zero_point.bits
        return bits

    def __str__(self) -> str:
        scales = ", ".join(map(str, self.scales))
        offset = f", zero point {self.zero_point.name}" if self.zero_point else ""
        stage = f", via {self.via.name}" if self.via else ""
        return f"{self.name}: {self.element.name}, scale {scales}{offset}{stage}"

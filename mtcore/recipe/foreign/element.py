"""num_bits and block_sizes as a format: looked up among the known ones, else made with a name that tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mtcore.formats import (
    PER_ROW,
    PER_TENSOR,
    WHOLE,
    Block,
    FloatElement,
    IntElement,
    PowerOfTwoElement,
    Scale,
    TensorFormat,
)
from mtcore.formats.element import E2M1, E2M3, E3M2, E4M3, E5M2, E8M0, FP32
from mtcore.recipe.foreign.attributes import Attributes, Bits

FLOATS: dict[Bits, FloatElement] = {
    (4, 3): E4M3,
    (5, 2): E5M2,
    (2, 1): E2M1,
    (3, 2): E3M2,
    (2, 3): E2M3,
    (1, 2): FloatElement(1, 2),
    (3, 0): FloatElement(3, 0),
}
INT_BITS = range(2, 9)

_SHORT = {E4M3: "fp8", E5M2: "fp8_e5m2", E2M1: "fp4"}
_PLAIN_BLOCKS = {PER_TENSOR: "", PER_ROW: "_row", Block(WHOLE, 1): "_column"}


class UntranslatableError(Exception):
    """What cannot be said here; the message tells why."""


def translate(attributes: Attributes, formats: Mapping[str, TensorFormat], *, is_weight: bool) -> TensorFormat:
    """The format that the attributes mean on a weight or an activation.

    A format of the catalog is taken if it stores the same, whether or not its integers use the most negative code:
    calibrated values never reach it, since amax maps to the largest positive one.
    """
    block = _block(attributes, is_weight=is_weight)
    element = _element(attributes)
    scale_bits = attributes.block_sizes.scale_bits if attributes.block_sizes else None
    if isinstance(element, IntElement) and scale_bits == (8, 0):
        element = replace(element, fraction_bits=element.bits - 2)  # as MXINT8 of the OCP MX specification
    known = {_anonymous(fmt): fmt for fmt in reversed(list(formats.values()))}
    wanted = TensorFormat("wanted", element, _scales(block, scale_bits))
    for candidate in (wanted, _other_range(wanted)):
        if _anonymous(candidate) in known:
            return known[_anonymous(candidate)]
    return _named(wanted, formats)


def in_two_stages(first: TensorFormat, second: TensorFormat, formats: Mapping[str, TensorFormat]) -> TensorFormat:
    """The format of a list of two attributes: codes of `first`, whose values are rounded once more to `second`."""
    if len(first.scales) != 1 or first.inner.element != FP32:
        raise UntranslatableError(
            f"the first stage is {first.name}; only fp32 scales of one level can have a second stage"
        )
    if not isinstance(second.element, FloatElement) or second.scales != (Scale(FP32, PER_TENSOR),):
        raise UntranslatableError(
            f"the second stage is {second.name}; it can only be a float with one scale a tensor"
        )
    wanted = replace(first, scales=(first.inner, Scale(FP32, PER_TENSOR)), via=second.element)
    known = {_anonymous(fmt): fmt for fmt in reversed(list(formats.values()))}
    return known.get(_anonymous(wanted)) or _named(wanted, formats)


def _element(attributes: Attributes) -> IntElement | FloatElement:
    bits = attributes.num_bits
    if isinstance(bits, int):
        if bits not in INT_BITS:
            raise UntranslatableError(f"num_bits {bits}: integers have {INT_BITS[0]} to {INT_BITS[-1]} bits")
        return IntElement(bits, signed=not attributes.unsigned, narrow=attributes.narrow_range)
    if attributes.unsigned:
        raise UntranslatableError(f"num_bits {list(bits)} with unsigned: floats have a sign here")
    if bits not in FLOATS:
        known = ", ".join(str(list(pair)) for pair in FLOATS)
        integer = "; an integer is written num_bits: 4" if bits == (0, 3) else ""
        raise UntranslatableError(f"num_bits {list(bits)}: floats are {known}{integer}")
    return FLOATS[bits]


def _block(attributes: Attributes, *, is_weight: bool) -> Block:
    sizes, axis = attributes.block_sizes, attributes.axis
    if sizes is None:
        return PER_TENSOR if axis is None else _block_of_axis(axis, is_weight=is_weight)
    if axis is not None:
        raise UntranslatableError("axis and block_sizes exclude each other")
    extents = {_from_the_end(at, is_weight=is_weight): size for at, size in sizes.extents.items()}
    if len(extents) < len(sizes.extents):
        raise UntranslatableError(f"block_sizes names one axis twice: {dict(sizes.extents)}")
    rows, cols = (WHOLE if (size := extents.get(at, 1)) is None else size for at in (-2, -1))
    return Block(rows, cols)


def _block_of_axis(axis: int, *, is_weight: bool) -> Block:
    """One scale for every index of `axis`: a row of a weight [out, in], a feature of an activation."""
    at = _from_the_end(axis, is_weight=is_weight)
    if at == -1:
        return Block(WHOLE, 1)
    if not is_weight:
        raise UntranslatableError(f"axis {axis} of an activation: one scale a token is block_sizes {{-1: null}}")
    return PER_ROW


def _from_the_end(axis: int, *, is_weight: bool) -> int:
    """The axis of a matrix counted from its end; weights are [out, in]."""
    at = axis - 2 if is_weight and axis in (0, 1) else axis
    if at in (-1, -2):
        return at
    hint = "" if is_weight else "; count from the end, for an activation's number of axes is not known"
    raise UntranslatableError(f"axis {axis} is not one of a matrix's two{hint}")


def _scales(block: Block, scale_bits: Bits | None) -> tuple[Scale, ...]:
    if scale_bits is None:
        return (Scale(FP32, block),)
    if scale_bits == (8, 0):
        return (Scale(E8M0, block, rounding="up"),)
    return (Scale(E4M3, block, smallest=E4M3.smallest_subnormal), Scale(FP32, PER_TENSOR))


def _other_range(fmt: TensorFormat) -> TensorFormat:
    """The format with or without the most negative integer; floats as they are."""
    if not isinstance(fmt.element, IntElement) or not fmt.element.signed:
        return fmt
    return replace(fmt, element=replace(fmt.element, narrow=not fmt.element.narrow))


def _anonymous(fmt: TensorFormat) -> TensorFormat:
    return replace(fmt, name="", aliases=(), summary="")


def _named(fmt: TensorFormat, formats: Mapping[str, TensorFormat]) -> TensorFormat:
    """The format under a name made of its element, its block and its scales, which no other format has."""
    element = fmt.element
    if isinstance(element, IntElement):
        base = f"{'' if element.signed else 'u'}int{element.bits}{'_narrow' if element.narrow else ''}"
    else:
        assert isinstance(element, FloatElement), "num_bits gives integers and floats only"
        base = _SHORT.get(element, f"fp{element.bits}_{element.name}")
    block = fmt.block
    name = base + _PLAIN_BLOCKS.get(block, f"_b{block.cols}" if block.rows == 1 else f"_{_extent(block)}")
    if isinstance(fmt.inner.element, PowerOfTwoElement):
        name = f"mx{name}"
    elif fmt.via is not None:
        name += f"_{_SHORT.get(fmt.via, fmt.via.name)}"
    elif fmt.outer is not None:
        name = f"nv{name}"
    while name in formats:
        name += "_foreign"
    summary = f"{element.name}, scale {', '.join(map(str, fmt.scales))}"
    return replace(fmt, name=name, aliases=(), summary=summary)


def _extent(block: Block) -> str:
    return "x".join("all" if extent == WHOLE else str(extent) for extent in (block.rows, block.cols))

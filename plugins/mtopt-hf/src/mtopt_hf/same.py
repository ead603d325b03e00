"""When two number formats are the same to a reader of a file."""

from __future__ import annotations

from mtcore.formats import FloatElement, IntElement, TensorFormat


def same_when_stored(one: TensorFormat, other: TensorFormat) -> bool:
    """Whether they store the same codes under the same scales, so that a reader cannot tell them apart.

    On which code an amax lands, and whether the most negative code is used, is the writer's business alone.

    Example:
        >>> from mtcore.formats.catalog import FP8, INT8_ROW, INT8_ROW_FULL
        >>> same_when_stored(INT8_ROW, INT8_ROW_FULL), same_when_stored(INT8_ROW, FP8)
        (True, False)
    """
    return _stored(one) == _stored(other)


def _stored(fmt: TensorFormat) -> tuple[object, ...]:
    match fmt.element:
        case IntElement(bits=bits, signed=signed, fraction_bits=fraction):
            element: object = ("int", bits, signed, fraction)
        case FloatElement() as number:
            element = number
        case other:
            element = other
    scales = tuple((scale.element, scale.block) for scale in fmt.scales)
    return element, scales, fmt.zero_point, fmt.via

"""What a number format is: elements, tensor formats and the built-in catalog. Imports no torch."""

from mtcore.formats.catalog import builtin_formats
from mtcore.formats.element import (
    CodedElement,
    Element,
    Float32Element,
    FloatElement,
    IntElement,
    PowerOfTwoElement,
    TableElement,
)
from mtcore.formats.serial import format_from_dict, format_to_dict
from mtcore.formats.tensor import PER_ROW, PER_TENSOR, WHOLE, Block, Scale, TensorFormat

__all__ = [
    "PER_ROW",
    "PER_TENSOR",
    "WHOLE",
    "Block",
    "CodedElement",
    "Element",
    "Float32Element",
    "FloatElement",
    "IntElement",
    "PowerOfTwoElement",
    "Scale",
    "TableElement",
    "TensorFormat",
    "builtin_formats",
    "format_from_dict",
    "format_to_dict",
]

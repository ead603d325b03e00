"""What a number format is: elements, tensor formats and the built-in catalog. Imports no torch."""

from mtcore.formats.catalog import builtin_formats
from mtcore.formats.element import (
    E2M1,
    E2M3,
    E3M2,
    E4M3,
    E5M2,
    E8M0,
    FP32,
    INT8,
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
    "E2M1",
    "E2M3",
    "E3M2",
    "E4M3",
    "E5M2",
    "E8M0",
    "FP32",
    "INT8",
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

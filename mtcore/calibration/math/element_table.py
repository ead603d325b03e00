"""ElementTable: rounding to a small element in two steps, whatever the element: find the place, take the value."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from mtcore.errors import FormatError
from mtcore.formats import CodedElement, FloatElement, PowerOfTwoElement, TableElement


class ElementTable:
    """All values of an element in order, and for each the largest fp32 number that is rounded to it.

    `mtcore.numerics.round_to_element` does the same by arithmetic, in up to a dozen operations. Where a GPU rounds
    single columns, their number is what costs; a CPU is faster with arithmetic.
    """

    def __init__(self, element: CodedElement, device: torch.device) -> None:
        """
        Raises:
            FormatError: a power of two, which is an element for scales.
        """
        codes = _ascending(element)
        values = torch.tensor([value for _, value in codes], dtype=torch.float64)
        odd = torch.tensor([code % 2 == 1 for code, _ in codes])
        middle = (values[1:] + values[:-1]) / 2  # exact in binary64
        bounds = middle.float()
        above = (bounds > middle) | ((bounds == middle) & odd[:-1])  # a tie goes to the even code
        bounds = torch.where(above, bounds.nextafter(torch.full_like(bounds, -math.inf)), bounds)
        bounds[values[1:] == values[:-1]] = -math.ldexp(1.0, -149)  # two zeros: negative numbers keep their sign
        has_nan = isinstance(element, FloatElement) and element.specials != "none"
        no_number = math.nan if has_nan else float(self._without_number(values))
        self._bounds = torch.cat((bounds, torch.tensor([math.inf]))).to(device)
        self._values = torch.cat((values.float(), torch.tensor([no_number]))).to(device)

    @staticmethod
    def _without_number(values: Tensor) -> Tensor:
        """What NaN becomes where the element has none: the value nearest to 0."""
        return values[values.abs().argmin()].abs()

    def round(self, x: Tensor) -> Tensor:
        """Round fp32 values [n] to nearest, ties to even code, saturating. -0.0 counts as 0.0.

        Example:
            >>> ElementTable(FloatElement(2, 1), torch.device("cpu")).round(torch.tensor([-0.2, 0.75, 5.0, 9.0]))
            tensor([-0., 1., 4., 6.])
        """
        place = torch.bucketize(x, self._bounds, out_int32=True)  # NaN comes after infinity
        return self._values.index_select(0, place)


@lru_cache(maxsize=64)
def element_table(element: CodedElement, device: torch.device) -> ElementTable:
    """The table of an element on a device, made once."""
    return ElementTable(element, device)


def _ascending(element: CodedElement) -> list[tuple[int, float]]:
    """(number whose parity decides ties, value) of every finite code in the element's range, by value."""
    if isinstance(element, PowerOfTwoElement):
        raise FormatError(f"{element.name} is an element for scales: these are rounded by their named rule")
    if isinstance(element, TableElement):
        return list(enumerate(element.table))
    found = [
        (code, value)
        for code, value in enumerate(element.values)
        if math.isfinite(value) and element.min <= value <= element.max
    ]
    return sorted(found, key=lambda pair: (pair[1], math.copysign(1.0, pair[1])))

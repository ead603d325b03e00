"""Codes of 6 bits by way of 8-bit floats: what the kernels ask of a GPU's casts, asked of torch's."""

import pytest
import torch

from mtcore.formats import catalog
from mtcore.numerics import encode
from mtopt_kernels.constants import constants_of

LONGER = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}


def magnitudes(element):
    """All that the element has, those halfway between, and fp32's neighbours of both; what is beyond is cut off."""
    values = torch.tensor(element.values)
    values = values[values >= 0].unique()
    values = torch.cat((values, (values[1:] + values[:-1]) / 2, torch.tensor([2.0**-140, 2.0**-60, 1e-3])))
    near = [torch.nextafter(values, torch.tensor(end)) for end in (0.0, element.max)]
    return torch.cat((values, *near))


@pytest.mark.parametrize("fmt", [catalog.MXFP6_E2M3, catalog.MXFP6_E3M2], ids=lambda fmt: fmt.name)
def test_a_scaled_number_is_cast_to_the_longer_float_as_to_the_shorter_one(fmt):
    constants = constants_of(fmt)
    x = magnitudes(fmt.element)
    x = torch.cat((x, -x[x > 0]))
    bytes_ = (x * constants.e_shrink).to(LONGER[constants.e_carrier]).view(torch.uint8)
    assert not (bytes_ & 0x60).any()
    assert torch.equal((bytes_ & 31) | (bytes_ >> 2 & 32), encode(x, fmt.element))


@pytest.mark.parametrize("fmt", [catalog.FP8, catalog.MXFP4, catalog.NVFP4, catalog.INT4_B128], ids=str)
def test_codes_of_other_lengths_go_no_such_way(fmt):
    assert constants_of(fmt).e_carrier == ""

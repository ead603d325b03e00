"""Quantization in plain torch, which a compiler fuses into what computed the value: the bits of `quantize`.

A compiler may divide fp32 only nearly (Inductor does, by `div.full`), so quotients are products in fp64 here. One
rounding from fp64 to fp32 then gives the correctly rounded quotient, because no quotient of fp32 numbers lies near
enough to a midpoint of neighbours in fp32 for the error of the product to matter:

- Let m = M·2^k be a midpoint, M odd and of 25 bits at most, and x / s a quotient near it, s = S·2^j with S below
  2^24. x - m·s is a multiple of 2^(k + j), or x has few bits and is further away; so if x / s is not m, it is at
  least 2^k / S away, which is 2^-49 of m. With R = RN64(1 / s), RN64(x · R) is within 2^-52 + 2^-106 of x / s.
- x / s = m needs that M divides x's significand, which is below 2^24: so M is too, that is, x / s is subnormal.
  For a value in units that does not matter: its code is the zero of its sign, whichever neighbour it becomes. A
  scale, amax / target, must be right there too: RN64(x · R) is m itself where |target · R - 1| <= 2^-54, because m
  has 24 bits; `units_of` refuses other targets.
- fp64 neither over- nor underflows: 1 / s lies between 2^-128 and 2^149, x / s between 2^-277 and 2^277. Quotients
  beyond fp32 are clamped, as infinity is. NaN, infinity and zeros of both signs pass through a product as through a
  quotient, for no scale is 0 or infinite.

Values pass through their bits once: inside a fused kernel a compiler may keep fp32 where the model says bf16, and
codes would be those of a number that no tensor holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtcore.backends import DEQUANTIZE, LINEARS, Operation, format_of_key
from mtcore.formats import E4M3, FP32, PER_TENSOR, WHOLE, IntElement
from mtcore.numerics import compile_time_constant
from mtopt_kernels.alone import as_several

SPLIT_COLUMNS, SPLIT_ROWS = 8192, 264
"""Fewer rows, each of more columns, are reduced in several kernels by Inductor: under two rows a multiprocessor, of
which Hopper has 132."""


class Units(NamedTuple):
    """What quantization must know of a format.

    Attributes:
        integer: whether codes are int8, else e4m3.
        low, high: the range of codes.
        target: the code on which amax lands.
        zero_block: the scale of a block of zeros.
        by_tensor: whether one scale serves all, else `wide` columns of a row; WHOLE is all.
    """

    integer: bool
    low: float
    high: float
    target: float
    zero_block: float
    by_tensor: bool
    wide: int


@compile_time_constant
def units_of(format: str) -> Units | None:
    """The constants of a format key; None where codes are neither e4m3 nor whole numbers in int8, where a scale is
    not fp32 of the tensor, a row or a part of one, and where its target has an inverse too far off."""
    fmt = format_of_key(format)
    element, block, target = fmt.element, fmt.block, Fraction(fmt.target)
    integer = isinstance(element, IntElement) and element.signed and element.bits == 8 and not element.fraction_bits
    if not (integer or element == E4M3) or not (block == PER_TENSOR or block.rows == 1) or not fmt.symmetric:
        return None
    if fmt.outer is not None or fmt.inner.element != FP32 or abs(target * Fraction(1 / fmt.target) - 1) > 2**-54:
        return None
    return Units(
        integer, element.min, element.max, fmt.target, fmt.inner.zero_block, block == PER_TENSOR, block.cols
    )


def fused_linears(
    product: Callable[..., list[Tensor]],
    x: Tensor,
    qdata: Sequence[Tensor],
    scale: Sequence[Tensor],
    scale_2: Sequence[Tensor | None],
    input_amax: Tensor | None,
    input_outer_amax: None,
    bias: Sequence[Tensor | None],
    features: Sequence[int],
    format: str,
    input_format: str,
) -> list[Tensor] | None:
    """`mtcore.backends.reference.linears` as quantization in plain torch and a `product`, an implementation of
    `linears_of_codes`; None where `quantized` leaves it to one operation."""
    parts = quantized(x, input_amax, input_format)
    if parts is None:
        return None
    return product(*parts, qdata, scale, scale_2, bias, features, x.dtype, format, input_format)


def fused_linear(product: Callable[..., list[Tensor]], *arguments: Any) -> Tensor | None:
    """The same for one weight."""
    results = fused_linears(product, *as_several(*arguments))
    return None if results is None else results[0]


def quantized(x: Tensor, amax: Tensor | None, format: str) -> tuple[Tensor, Tensor | None, Tensor | None] | None:
    """Codes of x [tokens, cols], and their scales or else the calibrated magnitude of the tensor, from which its
    scale follows: in the graph that would be a kernel for one number.

    None where one operation does it better: where a scale depends on all rows, so that nothing is fused with the
    codes; for long rows of few tokens, which Inductor would read in more kernels than it saves; and where a row's
    last run is shorter, which Inductor of torch 2.13 gets wrong on a CPU.

    Args:
        amax: the calibrated magnitude of x; None: its own.
    """
    units = units_of(format)
    if units is None:
        return None
    if amax is not None:
        if not units.by_tensor:
            return None
        return codes_of(x, scale_of(amax.reshape(1, 1), units), units), None, amax
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # which imports SymPy

    cols = x.shape[1]
    long = units.wide == WHOLE and cols > SPLIT_COLUMNS and statically_known_true(x.shape[0] < SPLIT_ROWS)
    if units.by_tensor or long or (units.wide != WHOLE and cols % units.wide):
        return None
    scale = scale_of(amax_of(x, units), units)
    return codes_of(x, scale, units), scale.contiguous(), None


def scale_of(amax: Tensor, units: Units) -> Tensor:
    """Scales, fp32, of blocks with these largest magnitudes; negative ones count as 0."""
    amax = amax.float().clamp(min=0)
    scale = (amax.double() * (1.0 / units.target)).float()
    scale = torch.where(scale == 0, units.zero_block, scale)
    return torch.where(amax.isinf(), torch.nan, scale)


def codes_of(x: Tensor, scale: Tensor, units: Units) -> Tensor:
    """The codes of x [rows, cols] with scales [grid rows, grid cols]: e4m3 or int8."""
    inverse = scale.double().reciprocal()
    if units.wide != WHOLE:
        inverse = inverse.unsqueeze(-1)
    steps = (_in_runs(_itself(x), units).float().double() * inverse).float()
    if units.integer:
        steps = torch.where(steps.isnan(), 0.0, steps).round()
    codes = steps.clamp(units.low, units.high).to(torch.int8 if units.integer else torch.float8_e4m3fn)
    return codes.contiguous().view(x.shape)


def amax_of(x: Tensor, units: Units) -> Tensor:
    """The largest magnitudes of rows or runs of x, fp32 [rows, grid cols]; NaN where one has a NaN."""
    return _in_runs(_itself(x).abs(), units).amax(-1, keepdim=units.wide == WHOLE).float()


def _in_runs(x: Tensor, units: Units) -> Tensor:
    """x [rows, cols], or [rows, grid cols, wide] where a run of columns has a scale."""
    return x if units.wide == WHOLE else x.unflatten(1, (-1, units.wide))  # type: ignore[no-untyped-call]


def _itself(x: Tensor) -> Tensor:
    """x as a tensor of its dtype holds it, or one in fp32."""
    x = x.float() if x.element_size() == 8 else x
    bits = x.view(torch.int16 if x.element_size() == 2 else torch.int32)
    return bits.bitwise_and(-1).view(x.dtype)  # Inductor takes out a view of a view, and no `bitwise_and`


def linears_of_codes(
    codes: Tensor,
    input_scale: Tensor | None,
    input_amax: Tensor | None,
    qdata: Sequence[Tensor],
    scale: Sequence[Tensor],
    scale_2: Sequence[Tensor | None],
    bias: Sequence[Tensor | None],
    features: Sequence[int],
    dtype: torch.dtype,
    format: str,
    input_format: str,
) -> list[Tensor]:
    """`mtcore.backends.reference.linears` of an input that is quantized already, in `dtype`: its codes with their
    scales, or with the calibrated magnitude of the tensor from which its scale follows."""
    if input_amax is not None:
        units = units_of(input_format)
        assert units is not None
        input_scale = scale_of(input_amax.reshape(1, 1), units)
    x = DEQUANTIZE.reference(codes, input_scale, None, codes.shape[1], dtype, input_format)
    results: list[Tensor] = LINEARS.reference(x, qdata, scale, scale_2, None, None, bias, features, format, "")
    return results


def _fake_linears(codes: Tensor, *others: Any) -> list[Tensor]:
    features, dtype = others[-4:-2]
    return [codes.new_empty((codes.shape[0], width), dtype=dtype) for width in features]


LINEARS_OF_CODES = Operation(
    "linears_of_codes",
    "(Tensor codes, Tensor? input_scale, Tensor? input_amax, Tensor[] qdata, Tensor[] scale, Tensor?[] scale_2, "
    "Tensor?[] bias, int[] features, ScalarType dtype, str format, str input_format) -> Tensor[]",
    linears_of_codes,
    _fake_linears,
)
"""What is left of `linears` where a compiler quantizes."""

"""One weight among several: the arguments of `linear` as `linears` takes them."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def as_several(
    x: Tensor,
    qdata: Tensor,
    scale: Tensor,
    scale_2: Tensor | None,
    input_amax: Tensor | None,
    input_outer_amax: Tensor | None,
    bias: Tensor | None,
    features: int,
    format: str,
    input_format: str,
) -> tuple[Any, ...]:
    """The arguments of `mtcore.backends.reference.linears` that compute what these do of `linear`."""
    one = [qdata], [scale], [scale_2], input_amax, input_outer_amax, [bias], [features]
    return x, *one, format, input_format

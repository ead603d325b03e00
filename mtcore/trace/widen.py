"""Double precision all through: a model's own casts to float32 are made casts to float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_NARROW = (torch.float32, torch.float16, torch.bfloat16)


@contextmanager
def widened() -> Iterator[None]:
    """Here new tensors are float64 by default, and whoever asks for a narrower float gets float64.

    Norms and routers that compute in float32 whatever the model's precision would otherwise leave 1e-7 of
    rounding in every output, which hides errors of folds with a small effect.

    Example:
        >>> with widened():
        ...     torch.ones(2).double().to(torch.float32).dtype
        torch.float64
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Widen():
            yield
    finally:
        torch.set_default_dtype(before)


class _Widen(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in (Tensor.float, Tensor.half, Tensor.bfloat16):
            return args[0].double()
        wide = {key: _wide(value) for key, value in (kwargs or {}).items()}
        if getattr(func, "__name__", "") in ("grouped_mm", "_grouped_mm") and args[0].dtype == torch.float64:
            return _grouped_mm(*map(_wide, args), **wide)
        return func(*map(_wide, args), **wide)


def _grouped_mm(
    x: Tensor,
    weight: Tensor,
    *,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """x [rows, K] @ weight [groups, K, N], `offs` the ends of the groups' rows: torch's kernel knows no float64."""
    if offs is None or bias is not None or x.dim() != 2 or weight.dim() != 3:
        raise NotImplementedError("grouped product in float64 of other ranks than 2 and 3, or with a bias")
    out = x.new_zeros(x.shape[0], weight.shape[2])
    start = 0
    for group, end in enumerate(offs.tolist()):
        out[start:end] = x[start:end] @ weight[group]
        start = end
    return out


def _wide(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in _NARROW else value

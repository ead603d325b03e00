"""Weightless: a forward without values. Parameters have shapes only (the meta device); whole numbers stay real.

Labels need no values but for the numbers that decide which elements meet: indices, masks, positions, routes.
So whole numbers and truth values are computed as always, on the CPU, and everything that depends on a parameter
keeps its shape alone. A number that is read off such a tensor (the experts that a router chooses) is made up:
indices count upwards, comparisons are false.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mtcore.trace.rules.routing import dealt_out
from mtcore.trace.values import flat_tensors, is_continuous, operands_of, written_arguments

META = torch.device("meta")
ORDERS = {"aten::topk": 2, "aten::sort": 1, "aten::argsort": 1, "aten::kthvalue": 2, "aten::median": 1}
"""Operations that give indices in an order of values, with the place of their `dim`."""


def run_weightless(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The result of an ATen operation: shapes where an operand has only that, values else.

    Raises:
        RuntimeError: as the operation itself does on the meta device, where the result's size depends on values.
    """
    tensors = operands_of(args, kwargs)
    if not any(t.device == META for t in tensors):
        return _on_host(func, args, kwargs, bool(tensors))
    for target in written_arguments(func, args, dict(kwargs)):
        if target.device != META:
            return target  # its values would come from values that do not exist
    args, kwargs = _on_meta(_without_masks(args)), _on_meta(dict(kwargs))
    if func.overloadpacket is torch.ops.aten._grouped_mm:
        return _grouped(args[0], args[1])
    return _made_up(func, args, func(*args, **kwargs))


def _on_host(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], has_operands: bool) -> Any:
    """Whole numbers that the model wants on its own device stay on the host."""
    if func.overloadpacket is torch.ops.aten.histc and not is_continuous(args[0].dtype):
        return func(args[0].double(), *args[1:], **kwargs).to(
            args[0].dtype
        )  # as on a GPU, which takes whole numbers
    if kwargs.get("device") is None or torch.device(kwargs["device"]) != META:
        return func(*args, **kwargs)
    local = {**kwargs, "device": torch.device("cpu")}
    dtype = kwargs.get("dtype")
    if dtype is None:
        dtype = flat_tensors(args)[0].dtype if has_operands else func(*args, **kwargs).dtype
    return func(*args, **(kwargs if is_continuous(dtype) else local))


def _on_meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value if value.device == META else value.to(META)
    if isinstance(value, (tuple, list)):
        return type(value)(map(_on_meta, value))
    if isinstance(value, dict):
        return {key: (META if key == "device" else _on_meta(item)) for key, item in value.items()}
    return value


def _without_masks(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Lists of indices with truth values turned into the places that are true."""
    return tuple(_places(a) if isinstance(a, list) and any(map(_is_mask, a)) else a for a in args)


def _is_mask(value: object) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.bool and value.device != META


def _places(indices: list[Any]) -> list[Any]:
    out: list[Any] = []
    for index in indices:
        out += index.nonzero(as_tuple=True) if _is_mask(index) else [index]
    return out


def _made_up(func: Any, args: tuple[Any, ...], out: Any) -> Any:
    """Whole numbers among the results get values."""
    if isinstance(out, Tensor):
        return out if is_continuous(out.dtype) else _numbers(func, args, out)
    if isinstance(out, (tuple, list)):
        return type(out)(_made_up(func, args, item) for item in out)
    return out


def _numbers(func: Any, args: tuple[Any, ...], like: Tensor) -> Tensor:
    name = func._schema.name
    if like.dtype == torch.bool or name not in ORDERS or like.dim() == 0:
        return torch.zeros(like.shape, dtype=like.dtype)
    place = ORDERS[name]
    dim = (args[place] if len(args) > place else -1) % like.dim()
    return dealt_out(args[0].shape, dim, like.shape[dim]).to(like.dtype)


def _grouped(x: Tensor, weight: Tensor) -> Tensor:
    """Rows of x times the matrix of their group; its meta kernel takes bfloat16 alone."""
    lead = x.shape[:-1] if x.dim() == 3 or weight.dim() == 3 else x.shape[:1]
    return torch.empty(*lead, weight.shape[-1], dtype=x.dtype, device=META)


class _Weightless(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return run_weightless(func, args, kwargs or {})


@contextmanager
def empty_weights() -> Iterator[None]:
    """Builds models whose parameters have shapes only; buffers of whole numbers (positions, masks) are real.

    Example:
        >>> with empty_weights():
        ...     model = nn.Embedding(1_000_000, 1_000_000)
        >>> model.weight.device
        device(type='meta')
    """
    with _Weightless(), torch.device("meta"):  # type: ignore[no-untyped-call]
        yield


@contextmanager
def weights_put_aside(model: nn.Module, wanted: bool) -> Iterator[None]:
    """While it lasts, every parameter of the model has only its shape; tied ones stay tied."""
    if not wanted:
        yield
        return
    twins: dict[int, nn.Parameter] = {}

    def twin(parameter: nn.Parameter) -> nn.Parameter:
        if id(parameter) not in twins:
            twins[id(parameter)] = nn.Parameter(parameter.detach().to(META), requires_grad=parameter.requires_grad)
        return twins[id(parameter)]

    with _swapped(model, twin):
        yield


@contextmanager
def _swapped(model: nn.Module, twin: Callable[[nn.Parameter], nn.Parameter]) -> Iterator[None]:
    before = [(module, dict(module._parameters)) for module in model.modules()]
    try:
        for module, parameters in before:
            for name, parameter in parameters.items():
                if parameter is not None:
                    module._parameters[name] = twin(parameter)
        yield
    finally:
        for module, parameters in before:
            module._parameters.clear()
            module._parameters.update(parameters)

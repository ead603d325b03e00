"""KernelSpec: one implementation of an operation, with the conditions under which it can be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtcore.formats import TensorFormat


@dataclass(frozen=True)
class Use:
    """Something that a plan needs computed: an operation, in a format, on a device.

    Attributes:
        op: name of the operation (`mtcore.backends.OPERATIONS`).
        format: of the tensor that is quantized; of the weight, for a product; None for an operation that has none.
        device: where the tensors are.
        input_format: of the other factor of a product; None where it is not quantized.
        shape: of the weight of a product, [out features, in features]; None elsewhere.

    Example:
        >>> from mtcore.formats.catalog import FP8, NVFP4
        >>> str(Use("linear", NVFP4, torch.device("cpu"))), str(Use("linear", FP8, torch.device("cpu"), FP8))
        ('linear nvfp4', 'linear fp8 x fp8')
    """

    op: str
    format: TensorFormat | None
    device: torch.device
    input_format: TensorFormat | None = None
    shape: tuple[int, int] | None = None

    def __str__(self) -> str:
        factor = "" if self.input_format is None else f" x {self.input_format.name}"
        return self.op if self.format is None else f"{self.op} {self.format.name}{factor}"


@dataclass(frozen=True)
class KernelSpec:
    """One implementation of an operation.

    Attributes:
        name: unique in a registry: "triton.fake_quantize".
        op: the operation that it implements, with the arguments and results that this has in `OPERATIONS`.
        refuses: why it cannot serve a use, in a few words ("needs sm_100"); None if it can; "" if it is made for
            other formats altogether, which is not shown. Asked once a plan. It answers for the format and for the
            device, and raises nothing.
        run: the implementation; a function of a module, so that a model that holds it can be copied and pickled.
        priority: of several kernels that can serve a use, the one with the largest is chosen.
        prepare: of a product: lays codes and scales of a stored weight out as `run` reads them, once; None where it
            reads them as `QTensor` holds them.
        together: of a product: several of one input at once, with the arguments and results of
            `mtcore.backends.reference.linears`; None where that is not faster than one after the other.
    """

    name: str
    op: str
    refuses: Callable[[Use], str | None]
    run: Callable[..., Any]
    priority: int = 0
    prepare: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    together: Callable[..., list[Tensor]] | None = None

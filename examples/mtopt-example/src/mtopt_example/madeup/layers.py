"""The layers of the made-up library: a projection whose weight lies the other way round, with an own activation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.library.custom_op("madeup::squash", mutates_args=())
def squash(x: Tensor) -> Tensor:
    """x / (1 + |x|), as one kernel that torch cannot look into."""
    return x / (1 + x.abs())


@squash.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def _remember(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])


def _backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
    (x,) = ctx.saved_tensors
    return grad / (1 + x.abs()).square()


squash.register_autograd(_backward, setup_context=_remember)


class Projection(nn.Module):
    """squash(x W + b); the weight is [in, out]. Shapes: [..., in] → [..., out]."""

    def __init__(self, features: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features, out) / features**0.5)
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor) -> Tensor:
        return squash(x @ self.weight + self.bias)


class Mlp(nn.Module):
    """Two projections and a linear head: [..., features] → [..., classes]."""

    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.up, self.down = Projection(features, hidden), Projection(hidden, features)
        self.head = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.down(self.up(x)))

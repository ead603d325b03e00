"""Factors of products are told apart, and parameters are followed through moves and through nothing else."""

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from mtcore.trace.products import Origins, operands, with_operand


class Follow(TorchFunctionMode):
    """Follows one parameter through a function, and notes what its products contract of it."""

    def __init__(self, weight):
        super().__init__()
        self.origins = Origins({"w": weight})
        self.contracted = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        for factor in operands(func, args, kwargs or {}) or ():
            origin = self.origins.of(factor.tensor)
            if origin is not None:
                self.contracted.append(origin.axes[factor.contracted])
        out = func(*args, **(kwargs or {}))
        self.origins.note(func, args, out)
        return out


def contracted(function, *shape):
    weight = torch.randn(shape)
    with Follow(weight) as follow:
        function(weight)
    return follow.contracted


IDS = torch.tensor([0, 2, 2, 1])


@pytest.mark.parametrize(
    ("function", "axis"),
    [
        (lambda w: F.linear(torch.randn(5, 4), w[1]), 2),
        (lambda w: F.linear(input=torch.randn(5, 4), weight=w[torch.tensor(1)]), 2),
        (lambda w: torch.randn(5, 6) @ w[1], 1),
        (lambda w: w.select(0, 1) @ torch.randn(4), 2),
        (lambda w: torch.bmm(w[IDS], torch.randn(4, 4, 1)), 2),
        (lambda w: torch.bmm(torch.randn(4, 1, 6), w[IDS]), 1),
        (lambda w: torch.bmm(torch.randn(3, 5, 4), w.transpose(1, 2)), 2),
        (lambda w: torch.matmul(torch.randn(3, 5, 4), w.to(torch.float64).float().mT), 2),
        (lambda w: torch.randn(5, 4) @ w.permute(0, 2, 1)[0], 2),
        (lambda w: torch.randn(5, 4) @ w.unbind(0)[2].T, 2),
        (lambda w: F.linear(torch.randn(5, 4), w.chunk(3)[0][0]), 2),
        (lambda w: torch.baddbmm(torch.zeros(()), torch.randn(3, 2, 6), w), 1),
        (lambda w: F.linear(torch.randn(5, 4), w[1:][0]), 2),
    ],
)
def test_the_axis_that_a_product_contracts_is_found_through_moves(function, axis):
    assert contracted(function, 3, 6, 4) == [axis]


@pytest.mark.parametrize(
    "function",
    [
        lambda w: F.linear(torch.randn(5, 4), (w * 2)[1]),
        lambda w: F.linear(torch.randn(5, 24), w.reshape(3, 24)),
        lambda w: F.linear(torch.randn(5, 3), w[0, :, 1:]),
        lambda w: (w + 1).sum(),
    ],
)
def test_what_is_no_mere_move_is_not_followed(function):
    assert contracted(function, 3, 6, 4) == []


def test_other_calls_are_no_products():
    assert operands(torch.add, (torch.ones(2), torch.ones(2)), {}) is None
    assert operands(torch.matmul, (torch.ones(2),), {}) is None


def test_a_factor_can_be_exchanged_where_it_stands():
    x, y, z = torch.ones(2, 2), torch.eye(2), torch.zeros(2, 2)
    left, right = operands(F.linear, (x,), {"weight": y})
    assert with_operand((x,), {"weight": y}, left.place, z)[0][0] is z
    assert with_operand((x,), {"weight": y}, right.place, z)[1]["weight"] is z

"""Casts to float32 become casts to float64, and only inside."""

import pytest
import torch
from torch import nn

from mtcore.trace import TraceInputs
from mtcore.trace.invariance import Invariance
from mtcore.trace.widen import widened


@pytest.mark.parametrize(
    "cast",
    [
        lambda x: x.float(),
        lambda x: x.to(torch.float32),
        lambda x: x.to(dtype=torch.bfloat16),
        lambda x: torch.softmax(x, -1, dtype=torch.float32),
        lambda x: torch.zeros(2),
        lambda x: x.to(torch.zeros(1, dtype=torch.float16)),
    ],
)
def test_whoever_asks_for_a_narrow_float_gets_float64(cast):
    with widened():
        assert cast(torch.ones(2, dtype=torch.float64)).dtype == torch.float64


def test_integers_keep_their_type():
    with widened():
        assert torch.ones(2).to(torch.int32).dtype == torch.int32


def test_the_default_comes_back_after_an_error():
    with pytest.raises(RuntimeError, match="inside"), widened():
        raise RuntimeError("inside")
    assert torch.zeros(1).dtype == torch.float32


class Upcast(nn.Module):
    """A linear layer whose result goes through float32, as the norms of language models do."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return self.inner(x).float() / 3


def test_a_model_that_computes_in_float32_is_proved_in_float64():
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    invariance = Invariance(Upcast(), TraceInputs((x,)))
    assert invariance.double
    assert all(out.dtype == torch.float64 for out in invariance._expected)


def test_a_grouped_product_is_that_of_its_groups_in_float64():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 16, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, 16, 8, generator=generator, dtype=torch.float64)
    ends = torch.tensor([2, 2, 5], dtype=torch.int32)
    with widened():
        out = torch._grouped_mm(x, weight, offs=ends)
    assert torch.equal(out[:2], x[:2] @ weight[0])
    assert torch.equal(out[2:5], x[2:5] @ weight[2])
    assert not out[5:].any()


def test_a_grouped_product_of_other_ranks_says_what_it_cannot():
    x = torch.ones(2, 16, 16, dtype=torch.float64)
    with widened(), pytest.raises(NotImplementedError, match="grouped product"):
        torch._grouped_mm(x, x)

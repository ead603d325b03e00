"""Views give the rows that share a scale, and give the tensor back."""

import pytest
import torch
import torch.nn.functional as F

from mtcore.nn import ChannelView, TokenView
from mtcore.nn.views import spread_blocks, sum_blocks

VIEWS = [
    (TokenView(), (2, 3, 4)),
    (TokenView(), (4,)),
    (TokenView(-3), (2, 8, 5, 6)),
    (TokenView(1), (2, 8, 5)),
    (ChannelView(), (4, 3, 2, 2)),
    (ChannelView(1), (6, 4, 3)),
    (ChannelView(1, groups=2), (6, 4, 3, 2)),
]


@pytest.mark.parametrize(("view", "shape"), VIEWS)
def test_there_and_back_is_the_same_tensor(view, shape):
    x = torch.randn(shape)
    assert view.to_matrix(x).dim() == 2
    assert torch.equal(view.from_matrix(view.to_matrix(x), x), x)


def test_rows_of_a_transposed_convolution_are_its_output_channels_also_in_groups():
    """Changing one row changes one output channel and no other."""
    weight = torch.randn(6, 4, 3)
    view = ChannelView(1, groups=2)
    x = torch.randn(1, 6, 5)
    before = F.conv_transpose1d(x, weight, groups=2)
    for row in range(8):
        matrix = view.to_matrix(weight).clone()
        matrix[row] += 1
        after = F.conv_transpose1d(x, view.from_matrix(matrix, weight), groups=2)
        changed = (after != before).any(dim=-1)[0]
        assert changed.nonzero().flatten().tolist() == [row]


def test_sums_over_blocks_undo_spreading_them():
    per_block = torch.arange(6.0).reshape(2, 3)
    spread = spread_blocks(per_block, 3, 8, 2, 3)
    assert spread.shape == (3, 8)
    assert spread[2, 7] == 5
    assert torch.equal(sum_blocks(torch.ones(3, 8), 2, 3), torch.tensor([[6.0, 6, 4], [3, 3, 2]]))

"""Bands cover every row once, hold whole blocks, and count beyond 2^31."""

import pytest
import torch

from mtcore.formats import PER_ROW, PER_TENSOR, WHOLE, Block
from mtcore.numerics import block_amax
from mtcore.numerics.bands import in_bands, row_bands


@pytest.mark.parametrize("block", [PER_TENSOR, PER_ROW, Block(1, 16), Block(128, 128), Block(WHOLE, 1)], ids=str)
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1000, 1000), (129, 70000), (3, 0), (2**20, 2**12)])
def test_bands_cover_every_row_once_and_hold_whole_blocks(block, rows, cols):
    high = 1 if block.rows == WHOLE else block.rows
    row = 0
    for part, grid_rows in row_bands(rows, cols, block):
        assert part.start == row
        assert part.start % high == 0
        if block.rows != WHOLE:
            assert grid_rows.start == part.start // high
        row = part.stop
    assert row == rows


def test_an_empty_matrix_has_no_bands():
    assert list(row_bands(0, 16, PER_ROW)) == []


def test_a_small_matrix_is_not_cut():
    seen = []
    in_bands(lambda part, grid_rows: seen.append((part.shape, grid_rows)) or part, torch.zeros(4, 4), PER_ROW, 4)
    assert seen == [((4, 4), slice(None))]


def test_gradients_flow_through_bands():
    x = torch.randn(300, 500, requires_grad=True)
    in_bands(lambda part, _: part * 2, x, PER_ROW, 300).sum().backward()
    assert (x.grad == 2).all()


@pytest.mark.slow
def test_more_than_two_to_the_31_elements_are_addressed():
    """Every row is a window on one small buffer, moved by one element, so that 2^31 elements need no memory."""
    rows, cols = 2**16, 2**15 + 64
    buffer = torch.zeros(rows + cols, dtype=torch.bfloat16)
    buffer[-2] = -3.0  # the last element of the last row only
    x = buffer.as_strided((rows, cols), (1, 1))
    assert x.numel() > 2**31
    amax = block_amax(x, Block(128, 128))
    assert amax.shape == (512, 257)
    assert amax[-1, -1] == 3.0
    assert amax.count_nonzero() == 1

"""Rows and tiles in pairs: which matrices are read so, and how they are cut."""

import pytest
import torch

from mtcore.formats import PER_ROW, PER_TENSOR, Block
from mtopt_kernels.pairs import Cut, cut_of, in_pairs

TILE = Block(128, 128)
MATRIX = torch.empty(256, 16384, dtype=torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("block", [PER_ROW, TILE, Block(64, 128)], ids=str)
def test_long_rows_and_tiles_of_16_bits_are_read_in_pairs(dtype, block):
    assert in_pairs(MATRIX.to(dtype), block)
    assert in_pairs(MATRIX[::2].to(dtype), block)


@pytest.mark.parametrize(
    ("x", "block"),
    [
        (MATRIX.float(), PER_ROW),
        (MATRIX[:, :9001], PER_ROW),  # a number is left over
        (MATRIX[:, 1:9001], PER_ROW),  # a pair does not begin where a register does
        (torch.empty(4, 9001, dtype=torch.bfloat16)[:, :9000], PER_ROW),  # nor in every second row
        (MATRIX[:, :4096], PER_ROW),
        (torch.empty(4, 32770, dtype=torch.bfloat16), PER_ROW),
        (MATRIX, PER_TENSOR),
        (MATRIX, Block(1, 128)),
        (MATRIX, Block(16, 16)),
        (MATRIX, Block(8192, 2)),
    ],
)
def test_other_matrices_are_not(x, block):
    assert not in_pairs(x, block)


@pytest.mark.parametrize("shape", [(3, 8192), (300, 9000), (1, 14336), (2, 28672), (128, 32768)], ids=str)
@pytest.mark.parametrize("block", [PER_ROW, TILE, Block(64, 256), Block(4, 4096)], ids=str)
def test_the_parts_of_a_rectangle_cover_it_and_fit_into_registers(shape, block):
    cut = cut_of(*shape, block)
    rows, cols = (1, shape[1]) if block == PER_ROW else (block.rows, block.cols)
    if block == PER_ROW:
        assert cut.high == 1
        assert 0 <= cut.parts * cut.wide * 2 - cols < 2 * cut.wide
    else:
        assert cut.high * cut.wide * cut.parts * 2 == rows * cols
    assert cut.high * cut.wide * cut.parts <= 64 * 32 * cut.warps, "pairs a thread"
    assert cut.programs == -(-shape[0] // rows) * -(-shape[1] // cols)


def test_only_what_is_made_of_whole_parts_is_read_without_looking():
    assert cut_of(256, 14336, PER_ROW) == Cut(1, 512, 14, False, 1, 256, True, 4)
    assert not cut_of(256, 14338, PER_ROW).whole
    assert cut_of(256, 512, TILE) == Cut(8, 64, 16, True, 4, 8, True, 4)
    assert not cut_of(255, 512, TILE).whole
    assert not cut_of(256, 510, TILE).whole

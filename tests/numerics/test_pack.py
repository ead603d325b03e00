"""Packing is dense, first code lowest, and reversible for every width."""

import pytest
import torch

from mtcore.numerics import pack, unpack
from mtcore.numerics.pack import packed_cols


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("cols", [0, 1, 2, 7, 8, 9, 33])
def test_unpack_undoes_pack(bits, cols):
    codes = torch.randint(0, 2**bits, (5, cols), dtype=torch.uint8, generator=torch.Generator().manual_seed(bits))
    packed = pack(codes, bits)
    assert packed.shape == (5, packed_cols(cols, bits))
    assert torch.equal(unpack(packed, bits, cols), codes)


@pytest.mark.parametrize("bits", range(1, 9))
def test_a_row_is_one_little_endian_bit_string(bits):
    codes = torch.randint(0, 2**bits, (3, 19), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for row, packed in zip(codes.tolist(), pack(codes, bits).tolist(), strict=True):
        word = sum(code << (k * bits) for k, code in enumerate(row))
        assert packed == list(word.to_bytes(packed_cols(19, bits), "little"))


def test_the_even_code_of_a_pair_is_the_low_nibble():
    assert pack(torch.tensor([[1, 2]], dtype=torch.uint8), 4).tolist() == [[0x21]]

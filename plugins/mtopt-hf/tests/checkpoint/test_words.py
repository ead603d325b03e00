"""Words of integer codes, against the packing of one code after the other."""

import pytest
import torch

from mtcore.formats.catalog import INT8_ROW, int_block, int_block_asym
from mtcore.numerics import dynamic_qparams, quantize, unpack
from mtopt_hf.checkpoint.words import packed_words, paired_rows, standing_words, turned_words
from mtopt_hf.formats import int_row

FORMATS = [
    *(make(bits, 32) for bits in (2, 3, 4, 5, 6, 8) for make in (int_block, int_block_asym)),
    int_row(4),
    INT8_ROW,
]
SIZES = [(8, 32), (16, 33), (24, 61), (8, 1), (40, 127)]
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def _quantized(fmt, rows, cols):
    matrix = torch.randn(rows, cols, generator=torch.Generator().manual_seed(rows * cols))
    return quantize(matrix, dynamic_qparams(matrix, fmt))


def _unsigned(q):
    """Codes counted from the smallest value, one by one."""
    bits = q.format.element.bits
    codes = unpack(q.qdata, bits, q.cols).view(torch.uint8).to(torch.int64)
    return codes ^ (1 << (bits - 1)) if q.format.element.signed else codes


def _dense(codes, bits):
    """Rows of codes as rows of 32-bit words, bit by bit."""
    stream = [(int(code) >> k) & 1 for row in codes for code in row for k in range(bits)]
    rows = torch.tensor(stream, dtype=torch.int64).view(len(codes), -1)
    rows = torch.nn.functional.pad(rows, (0, -rows.shape[1] % 32)).view(len(codes), -1, 32)
    return (rows << torch.arange(32)).sum(-1).to(torch.int32)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_words_are_those_of_codes_packed_bit_by_bit(fmt, size):
    q = _quantized(fmt, *size)
    expected = _dense(_unsigned(q), fmt.element.bits)
    assert torch.equal(packed_words(q), expected)
    standing = standing_words(q)
    assert torch.equal(standing, expected.t())
    assert standing.is_contiguous()


@pytest.mark.parametrize("make", [int_block, int_block_asym])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_turned_words_are_those_of_outputs_taken_in_order(make, size):
    q = _quantized(make(4, 32), *size)
    codes = _unsigned(q)
    by_input = codes.view(-1, 8, q.cols)[:, list(ORDER)].reshape(q.rows, q.cols).t()
    assert torch.equal(turned_words(q, ORDER), _dense(by_input, 4))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_paired_rows_hold_two_outputs_in_a_byte(size):
    q = _quantized(int_block(4, 32), *size)
    codes = unpack(q.qdata, 4, q.cols)
    assert torch.equal(paired_rows(q), codes[0::2] | (codes[1::2] << 4))


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_codes_stay_as_they_were(fmt):
    q = _quantized(fmt, 16, 33)
    before = q.qdata.clone()
    packed_words(q), standing_words(q)
    assert torch.equal(q.qdata, before)

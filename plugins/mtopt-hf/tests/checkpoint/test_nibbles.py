"""Nibbles that move many at a time lie where they do one by one."""

import pytest
import torch

from mtopt_hf.checkpoint import nibbles
from mtopt_hf.checkpoint.nibbles import paired, turned

ORDERS = [tuple(range(8)), (0, 2, 4, 6, 1, 3, 5, 7), (7, 0, 6, 1, 5, 2, 4, 3)]
SIZES = [(8, 1), (16, 3), (8, 40), (104, 5), (72, 33)]


def _codes(rows, cols):
    return torch.randint(
        0, 16, (rows, cols), dtype=torch.int64, generator=torch.Generator().manual_seed(rows + cols)
    )


def _words(codes):
    """Eight codes after one another as an int32, one by one."""
    values = [
        [sum(int(code) << (4 * k) for k, code in enumerate(row[at : at + 8])) for at in range(0, len(row), 8)]
        for row in codes.tolist()
    ]
    wrapped = [[value - (1 << 32) if value >> 31 else value for value in row] for row in values]
    return torch.tensor(wrapped, dtype=torch.int32)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("rows", "words"), SIZES)
def test_turned_words_hold_the_codes_of_the_transposed_matrix_in_order(rows, words, order, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(nibbles, "TILE_WORDS", 64)  # so that there are several tiles, the last one smaller
    codes = _codes(rows, 8 * words)
    in_order = codes.view(-1, 8, 8 * words)[:, list(order)].reshape(rows, -1)
    assert torch.equal(turned(_words(codes), order), _words(in_order.t()))


def test_turning_twice_is_where_it_began():
    words = _words(_codes(48, 72))
    assert torch.equal(turned(turned(words, ORDERS[0]), ORDERS[0]), words)


def test_bits_are_flipped_on_the_way():
    codes = _codes(16, 24)
    flipped = turned(_words(codes), ORDERS[1], flip=0x88888888)
    assert torch.equal(flipped, turned(_words(codes ^ 8), ORDERS[1]))


@pytest.mark.parametrize(("rows", "width"), [(2, 1), (6, 5), (64, 7), (130, 33)])
def test_paired_rows_hold_the_codes_of_two_rows_in_a_byte(rows, width, monkeypatch):
    monkeypatch.setattr(nibbles, "TILE_WORDS", 64)
    codes = _codes(rows, 2 * width).to(torch.uint8)
    packed = codes[:, 0::2] | (codes[:, 1::2] << 4)
    assert torch.equal(paired(packed), codes[0::2] | (codes[1::2] << 4))


def test_without_values_shapes_and_dtypes_are_told():
    words = torch.empty(16, 3, dtype=torch.int32, device="meta")
    found = turned(words, ORDERS[0])
    assert (found.shape, found.dtype, found.is_meta) == ((24, 2), torch.int32, True)
    found = paired(torch.empty(6, 5, dtype=torch.uint8, device="meta"))
    assert (found.shape, found.dtype, found.is_meta) == ((3, 10), torch.uint8, True)


def test_no_rows_are_no_words():
    assert turned(torch.empty(0, 3, dtype=torch.int32), ORDERS[0]).shape == (24, 0)
    assert turned(torch.empty(8, 0, dtype=torch.int32), ORDERS[0]).shape == (0, 1)

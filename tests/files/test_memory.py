"""Sizes as people write them, and what the process holds."""

import pytest
import torch

from mtcore.errors import MtcoreError
from mtcore.files import parse_bytes, peak_bytes, resident_bytes, trim_memory


@pytest.mark.parametrize(
    ("text", "size"), [("1KiB", 1024), ("2 k", 2000), (" 3.5MB ", 3_500_000), ("7", 7), ("1t", 10**12)]
)
def test_sizes_have_decimal_and_binary_units(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "8 GiBit", "1.2.3G", "-4K"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(MtcoreError, match="is no size; write 8GiB"):
        parse_bytes(text)


def test_a_large_tensor_is_seen_in_memory_and_its_end_too():
    before = resident_bytes()
    tensor = torch.ones(16 << 20)
    assert resident_bytes() - before > 60 << 20
    del tensor
    trim_memory()
    assert resident_bytes() - before < 8 << 20
    assert peak_bytes() - before > 60 << 20

"""Values straight from the file: decoded exactly, large tensors in pieces."""

import struct

import ml_dtypes
import numpy as np
import pytest

from mtcore.lint import open_checkpoint
from mtcore.lint.values import PIECE, PIECES

TYPES = {
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "BF16": ml_dtypes.bfloat16,
    "F16": np.float16,
    "F32": np.float32,
}


def one_tensor(tmp_path, write, dtype, raw, width):
    entry = {"dtype": dtype, "shape": [len(raw) // width], "data_offsets": [0, len(raw)]}
    (tmp_path / "model.safetensors").write_bytes(write({"s": entry}, raw))
    return open_checkpoint(tmp_path), open_checkpoint(tmp_path).tensors["s"]


@pytest.mark.parametrize("dtype", TYPES)
def test_every_code_has_the_value_that_another_library_gives_it(tmp_path, write, dtype):
    width = np.dtype(TYPES[dtype]).itemsize
    raw = bytes(range(256)) * 4 if width == 1 else np.arange(0, 2**16, 13, dtype=np.uint16).tobytes()[:8192]
    checkpoint, tensor = one_tensor(tmp_path, write, dtype, raw, width)
    expected = np.frombuffer(raw, TYPES[dtype]).astype(np.float32)
    np.testing.assert_array_equal(checkpoint.values.small(tensor), expected)


def test_facts_of_a_small_tensor_are_complete(folder):
    checkpoint = open_checkpoint(folder)
    facts = checkpoint.values.facts(checkpoint.tensors["a.weight_scale"])
    assert (facts.count, facts.negatives, facts.smallest, facts.largest, facts.complete) == (2, 1, -2.0, 0.5, True)
    facts = checkpoint.values.facts(checkpoint.tensors["a.weight"])  # 1, 2, NaN, infinity
    assert (facts.nans, facts.infinities, facts.largest) == (1, 1, 2.0)


def test_of_a_large_tensor_pieces_are_read(tmp_path, write):
    raw = np.ones(PIECE * 10, np.float32).tobytes()
    checkpoint, tensor = one_tensor(tmp_path, write, "F32", raw, 4)
    facts = checkpoint.values.facts(tensor)
    assert facts.count == PIECE * PIECES // 4
    assert not facts.complete
    assert checkpoint.values.small(tensor) is None


def test_all_of_it_is_read_when_asked_for(tmp_path, write):
    values = np.ones(PIECE * 10, np.float32)
    values[PIECE * 3 + 7] = np.nan
    one_tensor(tmp_path, write, "F32", values.tobytes(), 4)
    checkpoint = open_checkpoint(tmp_path, everything=True)
    facts = checkpoint.values.facts(checkpoint.tensors["s"])
    assert (facts.count, facts.nans, facts.complete) == (PIECE * 10, 1, True)


def test_a_file_that_shrank_meanwhile_gives_no_values(folder):
    checkpoint = open_checkpoint(folder)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 0))
    assert checkpoint.values.small(checkpoint.tensors["a.weight"]) is None
    assert checkpoint.values.facts(checkpoint.tensors["a.weight"]) is None


def test_an_empty_tensor_has_no_values(tmp_path, write):
    checkpoint, tensor = one_tensor(tmp_path, write, "F32", b"", 4)
    assert checkpoint.values.facts(tensor).count == 0

"""Headers of safetensors files: read within bounds, every damage by name."""

import json
import os
import struct

import pytest

from mtcore.lint.headers import LARGEST_HEADER, read_header

F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def faults(tmp_path, content):
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    return [fault.kind for fault in read_header(file, file.name)[1]]


def test_a_sound_file_gives_its_tensors(folder):
    tensors, found = read_header(folder / "model.safetensors", "model.safetensors")
    assert found == []
    assert [(tensor.name, tensor.dtype, tensor.shape, tensor.nbytes) for tensor in tensors] == [
        ("a.weight_scale", "F32", (2,), 8),
        ("a.weight", "BF16", (2, 2), 8),
    ]


def test_a_header_that_claims_too_much_is_not_read(tmp_path):
    assert faults(tmp_path, struct.pack("<Q", LARGEST_HEADER + 1) + b"{}") == ["header-too-large"]


@pytest.mark.parametrize("content", [b"", b"1234567", struct.pack("<Q", 10) + b"{}"])
def test_a_file_that_ends_in_its_header_is_cut_short(tmp_path, content):
    assert faults(tmp_path, content) == ["file-truncated"]


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b"[" * 200_000, b"[]", b"3", b"1" * 5000])
def test_a_header_that_is_no_json_object_is_damaged(tmp_path, text):
    assert faults(tmp_path, struct.pack("<Q", len(text)) + text) == ["header-damaged"]


@pytest.mark.parametrize(
    "entry",
    [
        {},
        [],
        None,
        7,
        F32 | {"shape": "x"},
        F32 | {"shape": [-1]},
        F32 | {"shape": [True]},
        F32 | {"shape": [2.0]},
        F32 | {"shape": [2**63]},
        F32 | {"data_offsets": [4, 0]},
        F32 | {"data_offsets": [0]},
        F32 | {"dtype": 3},
    ],
)
def test_an_entry_that_is_wrong_is_named(tmp_path, write, entry):
    file = tmp_path / "x.safetensors"
    file.write_bytes(write({"odd": entry, "good": F32}, bytes(4)))
    tensors, found = read_header(file, file.name)
    assert [tensor.name for tensor in tensors] == ["good"]
    assert found[0].kind == "header-damaged"
    assert "odd" in found[0].where


def test_a_dtype_that_nobody_knows_is_named(tmp_path, write):
    assert faults(tmp_path, write({"a": F32 | {"dtype": "F99"}}, bytes(4))) == ["dtype-unknown"]


@pytest.mark.parametrize(
    ("entries", "size"),
    [
        ({"a": F32 | {"shape": [2]}}, 4),  # the shape needs more than the offsets give
        ({"a": F32, "b": F32}, 4),  # two tensors share bytes
        ({"a": F32 | {"data_offsets": [4, 8]}}, 8),  # a hole
        ({"a": F32}, 9),  # bytes behind the last tensor
    ],
)
def test_data_that_the_header_does_not_describe_are_found(tmp_path, write, entries, size):
    assert faults(tmp_path, write(entries, bytes(size))) == ["tensor-offsets"]


def test_data_cut_short_are_found(tmp_path, write):
    assert faults(tmp_path, write({"a": F32}, bytes(3))) == ["file-truncated"]


def test_one_name_twice_in_a_header_is_found(tmp_path):
    entry = json.dumps(F32)
    text = f'{{"a": {entry}, "a": {entry}}}'.encode()
    assert faults(tmp_path, struct.pack("<Q", len(text)) + text + bytes(4)) == ["tensor-duplicate"]


def test_a_pipe_does_not_block_the_reader(tmp_path):
    os.mkfifo(tmp_path / "x.safetensors")
    assert [fault.kind for fault in read_header(tmp_path / "x.safetensors", "x")[1]] == ["file-missing"]


def test_a_file_that_is_not_there_is_missing(tmp_path):
    assert [fault.kind for fault in read_header(tmp_path / "x", "x")[1]] == ["file-missing"]

"""A small safetensors directory to read, and to spoil."""

import json
import struct

import pytest


def safetensors(entries, data, metadata=None):
    """A file with exactly these header entries, true or not."""
    header = dict(entries) if metadata is None else {"__metadata__": metadata, **entries}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture
def write():
    return safetensors


@pytest.fixture
def folder(tmp_path):
    """Two tensors in one file, and a config."""
    entries = {
        "a.weight_scale": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "a.weight": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [8, 16]},
    }
    data = struct.pack("<ff", 0.5, -2.0) + bytes.fromhex("803f0040c07f807f")
    (tmp_path / "model.safetensors").write_bytes(safetensors(entries, data, {"format": "pt"}))
    (tmp_path / "config.json").write_text('{"model_type": "toy"}')
    return tmp_path

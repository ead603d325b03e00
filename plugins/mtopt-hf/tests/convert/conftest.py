"""Checkpoints of peers with random codes, and readers of each dialect that share no code with ours."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from ml_dtypes import bfloat16, float8_e4m3fn

import mtopt_hf.hooks
from mtcore.plugins import Registry

_SPEC = importlib.util.spec_from_file_location("lint_drafts", Path(__file__).parents[1] / "lint" / "conftest.py")
DRAFTS = importlib.util.module_from_spec(_SPEC)
sys.modules["lint_drafts"] = DRAFTS  # its dataclass looks itself up
_SPEC.loader.exec_module(DRAFTS)

DTYPES = {
    "F32": np.float32,
    "F16": np.float16,
    "BF16": bfloat16,
    "F8_E4M3": float8_e4m3fn,
    "U8": np.uint8,
    "I8": np.int8,
    "I32": np.int32,
    "I64": np.int64,
}
FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


@pytest.fixture(scope="session")
def registry():
    return Registry.load([mtopt_hf.hooks], discover=False)


@pytest.fixture
def peer(tmp_path):
    """A checkpoint that a peer wrote, written with random codes: `peer("mo-nvfp4", shards=2)`."""

    def write(name, shards=1, spoil=lambda draft: None):
        draft, generator = DRAFTS.load_peer(name), np.random.default_rng(0)
        for entry in draft.tensors.values():
            dtype, shape, raw = entry
            count = int(np.prod(shape))
            if raw is None and dtype in ("U8", "I32", "I8"):
                size = count * DTYPES[dtype]().itemsize
                entry[2] = generator.integers(0, 256, size).astype(np.uint8).tobytes()
            elif raw is None:
                entry[2] = generator.standard_normal(count).astype(DTYPES[dtype]).tobytes()
        spoil(draft)
        return draft.write(tmp_path / name, shards)

    return write


def tensors_of(folder):
    """Every tensor of a directory as an array, read with numpy alone."""
    import json
    import struct

    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        raw = file.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        for name, entry in json.loads(raw[8 : 8 + length]).items():
            if name != "__metadata__":
                first, last = (8 + length + place for place in entry["data_offsets"])
                found[name] = np.frombuffer(raw[first:last], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return found


def nibbles(words, count):
    """Unsigned 4-bit codes of each row, the first in the lowest bits."""
    raw = np.ascontiguousarray(words).view(np.uint8)
    return np.stack((raw & 15, raw >> 4), axis=-1).reshape(len(raw), -1)[:, :count]


def spread(scale, cols):
    return np.repeat(scale.astype(np.float32), cols // scale.shape[1], axis=1)


def weight(tensors, layer, awq=False, v2=False):
    """The values of one layer's weight in float64, as a reader of whatever dialect its tensors are in."""
    part = {name.removeprefix(f"{layer}."): t for name, t in tensors.items() if name.startswith(f"{layer}.")}
    if "qweight" in part and awq:
        return _awq(part)
    if "qweight" in part:
        return _gptq(part, 0 if v2 else 1)
    if "weight_shape" in part:
        rows, cols = part["weight_shape"]
        zero = 8.0
        if "weight_zero_point" in part:
            zero = spread(nibbles(part["weight_zero_point"].T, rows).T, cols)
        return (nibbles(part["weight_packed"], cols) - zero) * spread(part["weight_scale"].reshape(rows, -1), cols)
    codes = part.get("weight_packed", part.get("weight"))
    if codes.dtype == np.uint8 and part["weight_scale"].dtype == float8_e4m3fn:
        outer = (
            part["weight_scale_2"] if "weight_scale_2" in part else 1 / part["weight_global_scale"].astype(float)
        )
        cols = codes.shape[1] * 2
        return (
            FP4[nibbles(codes, cols)].astype(float)
            * spread(part["weight_scale"], cols)
            * float(outer.reshape(-1)[0])
        )
    if codes.dtype == np.uint8:  # Model-Optimizer's INT4: two rows in a byte, two's complement
        rows = np.stack((codes & 15, codes >> 4), axis=1).reshape(-1, codes.shape[1]).astype(float)
        return np.where(rows > 7, rows - 16, rows) * spread(part["weight_scale"], codes.shape[1])
    scale = part.get("weight_scale_inv", part.get("weight_scale")).astype(float)
    blocks = scale.reshape(scale.shape[0], scale.shape[-2 if scale.ndim == 4 else -1]) if scale.ndim > 1 else scale
    if (blocks.ndim == 2 and blocks.shape[1] > 1) or (blocks.size < len(codes) and blocks.size > 1):
        blocks = np.repeat(np.repeat(blocks, 128, 0), 128, 1)[: codes.shape[0], : codes.shape[1]]
    elif blocks.size > 1:
        blocks = blocks.reshape(-1, 1)
    return codes.astype(float) * blocks


def _gptq(part, off):
    cols, rows = part["qweight"].shape[0] * 8, part["qweight"].shape[1]
    zero = nibbles(part["qzeros"], rows).T + off
    return (nibbles(part["qweight"].T, cols) - spread(zero, cols)) * spread(part["scales"].T, cols)


def _awq(part):
    def straight(words):
        stored = nibbles(words, words.shape[1] * 8).reshape(len(words), -1, 8)
        codes = np.empty_like(stored)
        codes[:, :, AWQ_ORDER] = stored
        return codes.reshape(len(words), -1).T

    codes = straight(part["qweight"])
    return (codes - spread(straight(part["qzeros"]), codes.shape[1])) * spread(part["scales"].T, codes.shape[1])

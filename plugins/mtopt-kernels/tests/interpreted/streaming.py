"""The contract of the memory-bound kernels, in Triton's interpreter; run by test_interpreted.py."""

from dataclasses import replace

import pytest
import torch

from mtcore.backends import Use, format_key, reference
from mtcore.formats import builtin_formats
from mtcore.testing import KernelContract
from mtcore.testing.compare import assert_same_bits
from mtcore.testing.formats import sample
from mtopt_kernels import launch, specs

NAMES = (
    "fp8", "fp8_row", "fp8_128x128", "nvfp4", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2_floor", "mxfp4_half_up",
    "mxint8_floor", "int6_b64", "int4_b128_full",
)  # fmt: skip
"""Every kernel, kind of element, kind of scale and rule of rounding."""
FORMATS = {fmt.name: fmt for fmt in builtin_formats()}
KERNELS = {spec.op: spec for spec in specs.streaming_specs()}


def served(use):
    """What the kernel refuses apart from the device."""
    refused = specs.refuses_codes if use.op in ("quantize", "dequantize") else specs.refuses_streaming
    return refused(Use(use.op, use.format, torch.device("meta")))


def interpreted(op):
    return replace(KERNELS[op], run=getattr(launch, op), refuses=served)


CASES = [
    pytest.param(op, name, id=f"{op}-{name}")
    for op in KERNELS
    for name in (NAMES[:4] if op == "block_amax" else NAMES)  # the first four have a kernel of their own each
    if served(Use(op, FORMATS[name], torch.device("cpu"))) is None
]


@pytest.mark.parametrize(("op", "name"), CASES)
class TestStreaming(KernelContract):
    @pytest.fixture
    def kernel(self, op):
        return interpreted(op)

    @pytest.fixture
    def fmt(self, name):
        return FORMATS[name]


@pytest.mark.parametrize("op", ["fake_quantize", "quantize"])
@pytest.mark.parametrize("name", ["fp8_row", "int8_row_full"])
@pytest.mark.parametrize("bad", [1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(("cols", "dtype"), [(9001, "bfloat16"), (9000, "bfloat16"), (8192, "float16")])
def test_long_rows_are_held_and_end_as_in_the_reference(op, name, bad, cols, dtype):
    x = sample((3, cols), getattr(torch, dtype))
    x[2, cols - 1] = bad
    key = format_key(FORMATS[name])
    found, expected = getattr(launch, op)(x, None, None, key), getattr(reference, op)(x, None, None, key)
    for ours, theirs in zip(as_tuple(found), as_tuple(expected), strict=True):
        assert_same_bits(ours, theirs, f"{op} {name}")


def as_tuple(results):
    return results if isinstance(results, tuple) else (results,)

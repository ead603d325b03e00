"""Every kernel compiles for GPUs that are not there, with no register spilled."""

import pytest
import torch

from mtcore.backends import OPERATIONS, format_key
from mtcore.formats import catalog
from mtopt_kernels import launch
from mtopt_kernels.ahead import compile_launch, launches_of, resources_of

ROWS, COLS = 256, 4096
FORMATS = (catalog.FP8, catalog.FP8_ROW, catalog.FP8_TILE, catalog.NVFP4, catalog.MXFP8_E4M3, catalog.INT4_B128)
OPS = ("fake_quantize", "quantize", "dequantize", "block_amax")


def arguments(op, fmt):
    x, key = torch.empty(ROWS, COLS, dtype=torch.bfloat16), format_key(fmt)
    if op == "block_amax":
        return x, fmt.block.rows, fmt.block.cols
    if op == "dequantize":
        qdata, scale, scale_2 = OPERATIONS["quantize"].fake(x, None, None, key)
        return qdata, scale, scale_2, COLS, torch.bfloat16, key
    return x, None, None, key


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.parametrize("capability", [90, 100])
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_a_kernel_compiles_without_spilling(op, fmt, capability):
    launches = launches_of(getattr(launch, op), *arguments(op, fmt))
    assert launches
    for made in launches:
        resources = resources_of(compile_launch(made, capability))
        assert (resources.stack, resources.spilled) == (0, 0), made.kernel.__name__
        threads = 32 * made.options["num_warps"]
        assert resources.registers * threads <= 2**16, "the registers of one multiprocessor"


def test_loads_and_stores_of_a_streaming_kernel_are_16_bytes_wide():
    (made,) = launches_of(launch.fake_quantize, *arguments("fake_quantize", catalog.MXFP8_E4M3))
    ptx = compile_launch(made, 90).asm["ptx"]
    assert "ld.global.v4.b32" in ptx
    assert "st.global.v4.b32" in ptx

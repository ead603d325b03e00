"""Every kernel compiles for GPUs that are not there, with no register spilled."""

import pytest
import torch

from mtcore.backends import OPERATIONS, format_key
from mtcore.formats import catalog
from mtopt_kernels import launch, linear
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


def linear_launches():
    """The launches of the products with few tokens."""
    x, scale = torch.empty(16, COLS, dtype=torch.bfloat16), torch.empty(())
    words = torch.empty(COLS // 128, 512, 16, dtype=torch.int32)
    scale_bytes = torch.empty(COLS // 128, 512, 2, dtype=torch.int32)
    bias = torch.empty(512, dtype=torch.bfloat16)
    codes, weight = (torch.empty(rows, COLS, dtype=torch.float8_e4m3fn) for rows in (16, 512))
    rows = torch.empty(16, 1), torch.empty(512, 1)
    for tokens in (x, x.new_empty(64, COLS)):
        yield from launches_of(
            linear.nvfp4_linear, tokens, words, scale_bytes, scale, None, None, bias, 512, "", ""
        )
    yield from launches_of(linear.nvfp4_unpack, words, scale_bytes, scale, torch.bfloat16)
    yield from launches_of(linear.fp8_product, codes, rows[0], weight, rows[1], bias, torch.bfloat16)


@pytest.mark.parametrize("capability", [90, 100])
def test_the_products_compile_without_spilling(capability):
    launches = list(linear_launches())
    assert len(launches) == 4
    for made in launches:
        compiled = compile_launch(made, capability)
        resources = resources_of(compiled)
        assert (resources.stack, resources.spilled) == (0, 0), made.kernel.__name__
        assert resources.shared <= 227 * 1024, "what a program may have on sm_90 and sm_100"


def test_a_weight_goes_from_words_to_tensor_cores_without_touching_shared_memory_as_floats():
    made = next(linear_launches())
    ptx = compile_launch(made, 90).asm["ptx"]
    assert "mul.rn.bf16x2" in ptx
    assert "mma.sync" in ptx
    assert "st.shared.v4.b32" not in ptx.split("mul.rn.bf16x2")[1].split("mma.sync")[0]

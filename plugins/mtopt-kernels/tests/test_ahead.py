"""Every kernel compiles for GPUs that are not there, and spills no register with the Triton it was tuned with."""

import re
from functools import partial

import pytest
import torch
import triton

from mtcore.backends import OPERATIONS, Use, format_key
from mtcore.formats import catalog
from mtopt_kernels import calibration, eight_bit, four_bit, fp8, int8, launch, nvfp4_scaled, nvfp4_vector
from mtopt_kernels.ahead import compile_launch, launches_of, resources_of
from mtopt_kernels.configurations import Vector
from mtopt_kernels.kernels.eight_bit_gemm import eight_bit_gemm_kernel
from mtopt_kernels.kernels.four_bit_linear import four_bit_linear_kernel
from mtopt_kernels.kernels.nvfp4_vector import nvfp4_vector_kernel
from mtopt_kernels.kernels.pairs import pairs_kernel
from mtopt_kernels.specs import streaming_specs

ROWS, COLS = 256, 4096
FORMATS = (
    catalog.FP8, catalog.FP8_ROW, catalog.FP8_TILE, catalog.NVFP4, catalog.MXFP8_E4M3, catalog.INT4_B128,
    catalog.MXFP6_E2M3, catalog.MXFP6_E3M2, catalog.int_block(6, 64),
)  # fmt: skip
SPILLED = 0 if triton.__version__.startswith("3.6.") else 256
"""Bytes a thread that may be spilled: tiles were chosen with Triton 3.6; later ones allot registers otherwise."""
HELD = ((catalog.FP8_ROW, 256, 14336), (catalog.INT8_ROW, 256, 28672), (catalog.FP8_TILE, 256, 4096))
"""Formats whose scales need whole rows or tiles, with sizes of a matrix."""
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
        assert max(resources.stack, resources.spilled) <= SPILLED, made.kernel.__name__
        threads = 32 * made.options["num_warps"]
        assert resources.registers * threads <= 2**16, "the registers of one multiprocessor"


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_what_is_not_refused_on_sm_80_compiles_for_it(fmt, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    for spec in streaming_specs():
        if spec.refuses(Use(spec.op, fmt, torch.device("cuda"))) is None:
            for made in launches_of(getattr(launch, spec.op), *arguments(spec.op, fmt)):
                assert compile_launch(made, 80).asm["cubin"]


@pytest.mark.parametrize("capability", [90, 100])
@pytest.mark.parametrize(("fmt", "rows", "cols"), HELD, ids=str)
def test_rows_and_tiles_are_held_without_spilling_and_leave_room_for_four_warps_a_scheduler(
    fmt, rows, cols, capability
):
    x = torch.empty(rows, cols, dtype=torch.bfloat16)
    for op in (launch.fake_quantize, launch.quantize):
        (made,) = launches_of(op, x, None, None, format_key(fmt))
        assert made.kernel is pairs_kernel
        resources = resources_of(compile_launch(made, capability))
        assert max(resources.stack, resources.spilled) <= SPILLED
        assert resources.registers <= 128


def test_a_pair_of_codes_is_stored_as_the_cast_to_e4m3_makes_it():
    (made,) = launches_of(launch.quantize, *arguments("quantize", catalog.FP8_TILE))
    ptx = compile_launch(made, 90).asm["ptx"]
    assert "cvt.rn.satfinite.e4m3x2.f32" in ptx
    assert "shr.u16" not in ptx, "a pair is taken apart: LLVM's zext of two bytes leaves the second in the first"


@pytest.mark.parametrize(("fmt", "longer"), [(catalog.MXFP6_E2M3, "e4m3x2"), (catalog.MXFP6_E3M2, "e5m2x2")])
def test_codes_of_6_bits_are_made_by_the_cast_to_a_longer_float_and_written_in_words(fmt, longer):
    (made,) = launches_of(launch.quantize, *arguments("quantize", fmt))
    ptx = compile_launch(made, 90).asm["ptx"]
    assert f"cvt.rn.satfinite.{longer}.f32" in ptx
    assert "ld.global.v4.b32" in ptx
    assert ptx.count("st.global.b8") == 1, "the scale alone is written as a byte"


def test_loads_and_stores_of_a_streaming_kernel_are_16_bytes_wide():
    (made,) = launches_of(launch.fake_quantize, *arguments("fake_quantize", catalog.MXFP8_E4M3))
    ptx = compile_launch(made, 90).asm["ptx"]
    assert "ld.global.v4.b32" in ptx
    assert "st.global.v4.b32" in ptx


def statistics_launches():
    """What calibration asks of values and weights, and rotations."""
    x = torch.empty(ROWS, COLS, dtype=torch.bfloat16)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for moments in (False, True):
            for histogram in (False, True):
                yield from launches_of(calibration.column_statistics, x.to(dtype), moments, histogram)
    amax, importance = torch.empty(ROWS, COLS // 16), torch.empty(COLS)
    for weights in (None, importance):
        sweep = (x, amax, torch.empty(()), weights, 12, 10, format_key(catalog.NVFP4))
        yield from launches_of(calibration.sweep_amax, *sweep)
    for size in (16, 64, 1024, 4096):
        yield from launches_of(calibration.hadamard, x, size, False)
    yield from launches_of(calibration.hadamard, x.view(-1, 2**14), 2**14, False)


@pytest.mark.parametrize("warps", [4, 8, 16])
def test_a_product_with_one_token_has_each_lane_of_a_warp_where_its_own_words_are(monkeypatch, warps):
    # What is multiplied inside a warp is no operation on elements: it is right only where the last dimension of the
    # tensors are the lanes. (On a card sums are NaN elsewhere.)
    monkeypatch.setattr(four_bit, "nvfp4_vector_configuration", lambda *sizes: Vector(warps, 2))
    made = next(nvfp4_launches())
    assert made.kernel is nvfp4_vector_kernel
    text = compile_launch(made, 90).asm["ttgir"]
    used = set(re.findall(r"elementwise_inline_asm.* -> tensor<\d+x32x\w+, (#\w+)>", text))
    assert used
    lanes = "threadsPerWarp = [1, 32]", "lane = [[0, 1], [0, 2], [0, 4], [0, 8], [0, 16]]"
    for layout in used:
        assert any(what in re.search(rf"^{layout} = .*$", text, re.M)[0] for what in lanes)
    assert not re.search(r"convert_layout.*#blocked\w*> -> tensor<\d+x128xi32", text), (
        "words stay where they were read"
    )


@pytest.mark.parametrize("capability", [90, 100])
@pytest.mark.parametrize("early", [False, True])
def test_products_with_few_tokens_wait_for_the_kernel_before_them_only_where_they_start_early(
    monkeypatch, early, capability
):
    for module in (eight_bit, four_bit, nvfp4_vector):
        monkeypatch.setattr(module, "starts_early", lambda: early)
    for made in (*list(nvfp4_launches())[:2], *list(int4_launches())[:2], next(fp8_launches())):
        compiled = compile_launch(made, capability)
        assert ("griddepcontrol.wait" in compiled.asm["ptx"]) is early
        assert made.options.get("launch_pdl", False) is early
        assert max(resources_of(compiled).stack, resources_of(compiled).spilled) <= SPILLED


@pytest.mark.parametrize("capability", [90, 100])
def test_the_kernels_of_calibration_compile_without_spilling(capability):
    for made in statistics_launches():
        resources = resources_of(compile_launch(made, capability))
        assert max(resources.stack, resources.spilled) <= SPILLED, (made.kernel.__name__, made.arguments)
        assert resources.shared <= 227 * 1024, "what a program may have on sm_90 and sm_100"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_a_histogram_is_counted_in_shared_memory_and_what_is_rare_in_the_result(dtype):
    made = launches_of(calibration.column_statistics, torch.empty(ROWS, COLS, dtype=dtype), False, True)[0]
    ptx = compile_launch(made, 90).asm["ptx"]
    assert "red.shared.add.u32" in ptx
    assert ("red.global.add.u64" in ptx) == (dtype == torch.float32)


def nvfp4_launches():
    """The products with NVFP4 weights for 1 to 256 tokens, and the unpacking for more."""
    yield from four_bit_launches(torch.empty(COLS // 128, 512 // 16, 8, 4, dtype=torch.int32), torch.empty(()))


def nvfp4_fp8_launches():
    """The weight unpacked to FP8, and the product with it in fp16."""
    words = torch.empty(COLS // 128, 512 // 16, 2, 8, 4, 4, dtype=torch.int32)
    scale_bytes, one = torch.empty(COLS // 128, 512 // 16, 8, 4, dtype=torch.int32), torch.empty(1, 1)
    for tokens in (16, 64, 512, 8192):
        codes, bias = torch.empty(tokens, COLS, dtype=torch.float8_e4m3fn), torch.empty(512, dtype=torch.float16)
        weights = ([words], [scale_bytes], [torch.empty(())], [bias], [512])
        yield from launches_of(four_bit.nvfp4_fp8_products, codes, one, *weights, torch.float16)


def int4_launches():
    """The same for INT4 weights."""
    yield from four_bit_launches(torch.empty(COLS // 128, 512), None)


def four_bit_launches(scales, scale_2):
    features = 512
    words = torch.empty(COLS // 128, features // 16, 2, 8, 4, 4, dtype=torch.int32)
    for dtype in (torch.bfloat16, torch.float16):
        bias = torch.empty(features, dtype=dtype)
        for tokens in (1, 16, 64, 256):
            x = torch.empty(tokens, COLS, dtype=dtype)
            yield from launches_of(four_bit.four_bit_products, x, [words], [scales], [scale_2], [bias], [features])
    yield from launches_of(four_bit.four_bit_unpack, words, scales, scale_2, features, torch.bfloat16)


def fp8_launches():
    """The products with FP8 weights for few tokens and, in fp16, for many, by row and by block."""
    for tokens, dtype in ((16, torch.bfloat16), (64, torch.bfloat16), (512, torch.float16), (8192, torch.float16)):
        codes, weight = (torch.empty(rows, COLS, dtype=torch.float8_e4m3fn) for rows in (tokens, 512))
        bias = torch.empty(512, dtype=dtype)
        by_row = torch.empty(tokens, 1), torch.empty(512, 1)
        by_block = torch.empty(tokens, COLS // 128), torch.empty(4, COLS // 128)
        for scales in (by_row, by_block):
            product = partial(fp8.fp8_product, by_block=scales is by_block)
            yield from launches_of(product, codes, scales[0], weight, scales[1], bias, dtype)
        from_amax = partial(fp8.fp8_product, amax_in=format_key(catalog.FP8))
        yield from launches_of(from_amax, codes, torch.empty(()), weight, torch.empty(512, 1), bias, dtype)


def int8_launches():
    """The products with INT8 weights for few tokens and for many, by row and by tensor."""
    for tokens in (1, 64, 512, 8192):
        codes, weight = (torch.empty(rows, COLS, dtype=torch.int8) for rows in (tokens, 512))
        scale, bias = torch.empty(512, 1), torch.empty(512, dtype=torch.bfloat16)
        for x_scale in (torch.empty(tokens, 1), torch.empty(1, 1)):
            yield from launches_of(int8.int8_product, codes, x_scale, weight, scale, bias, bias.dtype)
        from_amax = partial(int8.int8_product, amax_in=format_key(catalog.INT8_TENSOR))
        yield from launches_of(from_amax, codes, torch.empty(()), weight, scale, bias, bias.dtype)


def together_launches():
    """Several weights in one kernel, which it has to tell apart, for few tokens."""
    features = (512, 128, 128, 64)
    words = [torch.empty(COLS // 128, width // 16, 2, 8, 4, 4, dtype=torch.int32) for width in features]
    bytes_ = [torch.empty(COLS // 128, width // 16, 8, 4, dtype=torch.int32) for width in features]
    scales, one = [torch.empty(COLS // 128, width) for width in features], torch.empty(())
    codes = [torch.empty(width, COLS, dtype=torch.float8_e4m3fn) for width in features]
    for count in (2, 3, 4):
        nothing = [None] * count
        for tokens in (1, 16, 64):
            x, codes_x = (torch.empty(tokens, COLS, dtype=d) for d in (torch.bfloat16, torch.float8_e4m3fn))
            each = (words[:count], bytes_[:count], [one] * count, nothing, features[:count])
            yield from launches_of(four_bit.four_bit_products, x, *each)
            each = (words[:count], scales[:count], nothing, nothing, features[:count])
            yield from launches_of(four_bit.four_bit_products, x, *each)
            rows = [torch.empty(width, 1) for width in features[:count]]
            together = (codes_x, torch.empty(tokens, 1), codes[:count], rows, nothing)
            yield from launches_of(fp8.fp8_products, *together, torch.bfloat16)


@pytest.mark.parametrize("capability", [90, 100])
@pytest.mark.parametrize(
    "launches", [nvfp4_launches, nvfp4_fp8_launches, int4_launches, fp8_launches, int8_launches, together_launches]
)
def test_the_products_compile_without_spilling(launches, capability):
    made = list(launches())
    assert len(made) >= 4
    for launch_made in made:
        resources = resources_of(compile_launch(launch_made, capability))
        assert max(resources.stack, resources.spilled) <= SPILLED, launch_made.kernel.__name__
        assert resources.shared <= 227 * 1024, "what a program may have on sm_90 and sm_100"


@pytest.mark.parametrize(
    ("launches", "decoding"), [(nvfp4_launches, "mul.rn.bf16x2"), (int4_launches, "sub.rn.bf16x2")]
)
def test_a_weight_goes_from_words_to_tensor_cores_without_touching_shared_memory_as_floats(launches, decoding):
    made = next(made for made in launches() if made.kernel is four_bit_linear_kernel)
    ptx = compile_launch(made, 90).asm["ptx"]
    assert decoding in ptx
    assert "mma.sync" in ptx
    assert "st.shared" not in ptx.split(decoding)[1].split("mma.sync")[0]


def test_nvfp4_by_nvfp4_is_multiplied_by_the_block_scaled_tensor_cores_of_sm_100():
    x, weight = (torch.empty(rows, COLS // 2, dtype=torch.uint8) for rows in (512, 1024))
    scales = [torch.empty(rows, COLS // 16, dtype=torch.float8_e4m3fn) for rows in (512, 1024)]
    one, bias = torch.empty(()), torch.empty(1024)
    product = (x, scales[0], one, weight, scales[1], one, bias, torch.bfloat16)
    (made,) = launches_of(nvfp4_scaled.nvfp4_scaled_product, *product)
    compiled = compile_launch(made, 100)
    assert "block_scale" in compiled.asm["ptx"]
    assert "tcgen05.mma" in compiled.asm["ptx"]
    resources = resources_of(compiled)
    assert max(resources.stack, resources.spilled) <= SPILLED
    assert resources.shared <= 227 * 1024


def test_many_tokens_are_read_by_the_copy_engine_and_multiplied_by_warp_groups():
    made = [launch_made for launch_made in fp8_launches() if launch_made.kernel is eight_bit_gemm_kernel]
    assert made
    ptx = compile_launch(made[0], 90).asm["ptx"]
    assert "cp.async.bulk.tensor" in ptx
    assert "wgmma.mma_async" in ptx


def test_products_of_int8_are_added_up_by_warp_groups_in_int32():
    made = [launch_made for launch_made in int8_launches() if launch_made.kernel is eight_bit_gemm_kernel]
    assert made
    ptx = compile_launch(made[0], 90).asm["ptx"]
    assert "wgmma.mma_async" in ptx
    assert "s32.s8.s8" in ptx

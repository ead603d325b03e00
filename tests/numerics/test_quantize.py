"""fake_quantize == dequantize after quantize, bit for bit, on every format and every kind of matrix."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtcore.errors import FormatError
from mtcore.formats import FloatElement, builtin_formats
from mtcore.formats.catalog import (
    FP8,
    FP8_ROW,
    INT4_B128,
    INT4_B128_FP8,
    INT8_ROW,
    INT8_TENSOR,
    MXFP4,
    NF4,
    NVFP4,
)
from mtcore.numerics import (
    QTensor,
    dequantize,
    dynamic_qparams,
    fake_quantize,
    qparams_from_amax,
    qparams_from_range,
    quantize,
    tensor_amax,
)
from mtcore.numerics.pack import packed_cols

FORMATS = list(builtin_formats())
DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def same_tensors(left: QTensor, right: QTensor) -> bool:
    """Every stored byte is the same."""
    names = left.tensors().keys()
    return names == right.tensors().keys() and all(
        torch.equal(
            left.tensors()[name].reshape(-1).view(torch.uint8), right.tensors()[name].reshape(-1).view(torch.uint8)
        )
        for name in names
    )


def same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    as_int = {2: torch.int16, 4: torch.int32}[left.element_size()]
    nan = left.isnan()
    return (
        left.shape == right.shape
        and torch.equal(nan, right.isnan())
        and torch.equal(left[~nan].view(as_int), right[~nan].view(as_int))
    )


@st.composite
def matrices(draw, *, finite=False):
    """Any shape from empty to a ragged second block, filled with a repeated pattern of any numbers."""
    rows, cols = draw(st.integers(0, 3)), draw(st.integers(0, 140))
    specials = [
        0.0,
        -0.0,
        1e-45,
        -1e-38,
        6e-8,
        1e30,
        -3e38,
        *([] if finite else [torch.nan, torch.inf, -torch.inf]),
    ]
    numbers = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.sampled_from(specials)
    pattern = draw(st.lists(numbers, min_size=1, max_size=40))
    return torch.tensor(list(itertools.islice(itertools.cycle(pattern), rows * cols))).view(rows, cols)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
@given(x=matrices(), dtype=st.sampled_from(DTYPES))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_fake_quantize_equals_dequantize_after_quantize(fmt, x, dtype):
    x = x.to(dtype)
    qparams = dynamic_qparams(x, fmt)
    assert same_bits(fake_quantize(x, qparams), dequantize(quantize(x, qparams)))


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
@given(x=matrices(), known=matrices(finite=True), dtype=st.sampled_from(DTYPES))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_the_same_holds_under_scales_of_another_matrix_and_nothing_but_nan_elements_stays_nan(fmt, x, known, dtype):
    grid = fmt.block.grid(*x.shape)
    amax = known.abs().amax() if known.numel() else torch.tensor(1.0)
    if fmt.symmetric:
        qparams = qparams_from_amax(amax.expand(grid), fmt, None if fmt.outer is None else amax)
    else:
        qparams = qparams_from_range(-(amax / 4).expand(grid), (amax / 4).expand(grid), fmt)
    x = x.to(dtype)
    fake = fake_quantize(x, qparams)
    assert same_bits(fake, dequantize(quantize(x, qparams)))
    has_nan = isinstance(fmt.element, FloatElement) and fmt.element.specials != "none"
    assert torch.equal(fake.isnan(), x.isnan() if has_nan else torch.zeros_like(x, dtype=torch.bool))


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_working_in_bands_changes_nothing(fmt, monkeypatch):
    x = torch.randn(300, 150, generator=torch.Generator().manual_seed(6))
    qparams = dynamic_qparams(x, fmt)
    whole = quantize(x, qparams)
    monkeypatch.setattr("mtcore.numerics.bands.BAND_ELEMENTS", 1000)
    banded = dynamic_qparams(x, fmt)
    assert same_tensors(QTensor(whole.qdata, banded, 300, 150, x.shape, x.dtype), whole)
    assert same_tensors(quantize(x, qparams), whole)
    assert same_bits(fake_quantize(x, qparams), dequantize(whole))


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_shapes_beyond_two_to_the_31_elements_are_counted_right(fmt):
    rows, cols = 2**17 + 1, 2**15 + 5
    x = torch.empty(rows, cols, dtype=torch.bfloat16, device="meta")
    q = quantize(x, dynamic_qparams(x, fmt))
    assert q.qdata.shape == (rows, packed_cols(cols, fmt.element.bits))
    assert q.qparams.scale.shape == fmt.block.grid(rows, cols)
    assert dequantize(q).shape == fake_quantize(x, q.qparams).shape == (rows, cols)


@pytest.mark.parametrize("fmt", [FP8_ROW, NVFP4, INT4_B128, MXFP4, NF4], ids=lambda f: f.name)
def test_the_number_of_threads_changes_nothing(fmt):
    x = torch.randn(600, 512, generator=torch.Generator().manual_seed(7))
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(quantize(x, dynamic_qparams(x, fmt)))
    finally:
        torch.set_num_threads(before)
    assert same_tensors(results[0], results[1])


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_block_that_is_not_finite_is_nan_throughout_and_stays_equal(fmt, bad):
    x = torch.randn(4, 48, generator=torch.Generator().manual_seed(0))
    x[1, 3] = bad
    qparams = dynamic_qparams(x, fmt)
    fake = fake_quantize(x, qparams)
    assert same_bits(fake, dequantize(quantize(x, qparams)))
    assert fake[1, :16].isnan().all()


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("shape", [(0, 16), (3, 0), (1, 1), (3, 17), (2, 16)])
def test_empty_and_ragged_matrices_keep_their_shape(fmt, shape):
    x = torch.randn(shape)
    qparams = dynamic_qparams(x, fmt)
    assert same_bits(fake_quantize(x, qparams), dequantize(quantize(x, qparams)))


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_zeros_quantize_to_positive_zero_with_the_stated_scale(fmt):
    x = torch.tensor([[0.0, -0.0] * 16])
    q = quantize(x, dynamic_qparams(x, fmt))
    scale = q.qparams.multiplier() if q.qparams.scale_2 is None else q.qparams.scale.float()
    assert (scale == fmt.inner.zero_block).all()
    assert (dequantize(q) == 0).all()


def test_nvfp4_matches_the_definition_written_out_by_hand():
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(1)) * 3
    q = quantize(x, dynamic_qparams(x, NVFP4))
    g = x.abs().max() / (6 * 448)
    blocks = x.view(8, 4, 16)
    scale = (blocks.abs().amax(-1) / (6 * g)).clamp(2**-9, 448).to(torch.float8_e4m3fn)
    ratio = (blocks / (scale.float() * g)[..., None]).abs()
    bounds = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    index = torch.bucketize(ratio, bounds)  # a tie stays below ...
    up = (ratio == 0.75) | (ratio == 1.75) | (ratio == 3.5)  # ... but these go to the even code above
    codes = (index + up.int()) | ((blocks < 0).int() << 3)
    packed = codes[..., 0::2] | (codes[..., 1::2] << 4)
    assert torch.equal(q.qparams.scale_2, g)
    assert torch.equal(q.qparams.scale.view(torch.uint8), scale.view(torch.uint8))
    assert torch.equal(q.qdata, packed.view(8, 32).to(torch.uint8))


def test_fp8_and_int8_match_the_definition_written_out_by_hand():
    x = torch.randn(5, 33, generator=torch.Generator().manual_seed(2))
    q = quantize(x, dynamic_qparams(x, FP8))
    scale = x.abs().max() / 448
    assert torch.equal(q.qparams.scale, scale.view(1, 1))
    assert torch.equal(q.qdata.float(), (x / scale).to(torch.float8_e4m3fn).float())
    q = quantize(x, dynamic_qparams(x, INT8_ROW))
    scale = x.abs().amax(1, keepdim=True) / 127
    assert torch.equal(q.qparams.scale, scale)
    assert torch.equal(q.qdata.float(), (x / scale).round().clamp(-127, 127))


def test_tiny_blocks_beside_large_ones_are_not_flushed():
    x = torch.full((1, 32), 2e-6)
    x[0, 16:] = 1e-2
    fake = fake_quantize(x, dynamic_qparams(x, NVFP4))
    assert (fake[0, :16] - 2e-6).abs().max() < 2e-7


@pytest.mark.parametrize("fmt", [INT8_TENSOR, FP8, FP8_ROW, NVFP4], ids=lambda f: f.name)
def test_a_static_amax_saturates_what_lies_beyond(fmt):
    x = torch.tensor([[1.0, 100.0] * 4 + [1.0, -100.0] * 4])
    amax = torch.full(fmt.block.grid(1, 16), 2.0)
    fake = fake_quantize(x, qparams_from_amax(amax, fmt, outer_amax=torch.tensor(2.0)))
    assert fake.max() == pytest.approx(2.0, rel=1e-6)
    assert fake.min() == pytest.approx(2.0 * fmt.element.min / fmt.target, rel=1e-6)


def test_int8_with_one_scale_saturates_as_its_servers_do_and_rows_keep_a_symmetric_range():
    x = torch.tensor([[-100.0, 100.0]])
    for fmt, low in ((INT8_TENSOR, -128), (INT8_ROW, -127)):
        coded = quantize(x, qparams_from_amax(torch.full((1, 1), 2.0), fmt))
        assert coded.qdata.tolist() == [[low, 127]]


def test_two_level_scales_without_the_outer_amax_are_refused():
    with pytest.raises(FormatError, match="'nvfp4'"):
        qparams_from_amax(torch.ones(1, 1), NVFP4)


ASYMMETRIC = [fmt for fmt in FORMATS if not fmt.symmetric]


@pytest.mark.parametrize("fmt", ASYMMETRIC, ids=lambda f: f.name)
@pytest.mark.parametrize("offset", [-3.0, 0.0, 0.4, 5.0])
def test_zero_is_exact_and_the_ends_are_near_in_asymmetric_formats(fmt, offset):
    x = torch.randn(4, 256, generator=torch.Generator().manual_seed(3)) + offset
    x[:, ::17] = 0.0
    qparams = dynamic_qparams(x, fmt)
    fake = fake_quantize(x, qparams)
    assert (fake[:, ::17] == 0).all()
    # half a step in the middle, and half a step more where the rounded zero point shifts an end out of range
    assert (fake - x).abs().max() <= qparams.scale.max() * 1.001


def test_asymmetric_scales_match_the_definition_written_out_by_hand():
    fmt = next(fmt for fmt in ASYMMETRIC if fmt.name == "int4_b32_asym")
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(4))
    q = quantize(x, dynamic_qparams(x, fmt))
    blocks = x.view(3, 2, 32)
    low, high = blocks.amin(-1).clamp(max=0), blocks.amax(-1).clamp(min=0)
    scale = (high - low) / 15
    zero = (-low / scale).round().clamp(0, 15)
    codes = ((blocks / scale[..., None]).round() + zero[..., None]).clamp(0, 15).view(3, 64).to(torch.uint8)
    assert torch.equal(q.qparams.scale, scale)
    assert torch.equal(q.qparams.zero_point, zero.to(torch.int16))
    assert torch.equal(q.qdata, codes[:, 0::2] | (codes[:, 1::2] << 4))


@pytest.mark.parametrize("fmt", ASYMMETRIC, ids=lambda f: f.name)
def test_nan_under_a_calibrated_range_becomes_zero(fmt):
    x = torch.tensor([[torch.nan, 1.0, -torch.inf, torch.inf]])
    qparams = qparams_from_range(torch.full((1, 1), -1.0), torch.full((1, 1), 3.0), fmt)
    fake = fake_quantize(x, qparams)
    assert fake[0, 0] == 0
    assert fake.isfinite().all()


def test_an_amax_is_refused_for_an_asymmetric_format_and_a_range_for_a_symmetric_one():
    with pytest.raises(FormatError, match="qparams_from_range"):
        qparams_from_amax(torch.ones(1, 1), ASYMMETRIC[0])
    with pytest.raises(FormatError, match="qparams_from_amax"):
        qparams_from_range(torch.zeros(1, 1), torch.ones(1, 1), FP8)


def test_the_two_stage_format_is_its_two_stages_one_after_the_other():
    x = torch.randn(6, 300, generator=torch.Generator().manual_seed(5))
    first = fake_quantize(x, dynamic_qparams(x, INT4_B128))
    second = fake_quantize(first, qparams_from_amax(x.abs().amax().view(1, 1), FP8))
    assert same_bits(fake_quantize(x, dynamic_qparams(x, INT4_B128_FP8)), second)


COMPILED = ("fp8", "nvfp4", "mxfp6_e3m2", "mxint8", "int4_b128_asym", "int4_b128_fp8", "nf4")


@pytest.mark.parametrize("name", COMPILED)
def test_a_compiler_takes_it_as_one_graph_with_the_same_bits(name):
    fmt = next(fmt for fmt in FORMATS if fmt.name == name)
    x = torch.randn(8, 256, generator=torch.Generator().manual_seed(8)).bfloat16()

    def fake(x):
        return fake_quantize(x, dynamic_qparams(x, fmt))

    torch.compiler.reset()
    assert same_bits(torch.compile(fake, fullgraph=True, backend="eager")(x), fake(x))


def test_the_amax_of_zeros_is_a_positive_zero():
    assert not torch.signbit(tensor_amax(torch.zeros(3)))

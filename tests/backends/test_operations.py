"""The operations: their references, their fakes, and how an implementation becomes a torch operation."""

import pytest
import torch

from mtcore.backends import OPERATIONS, format_key, format_of_key
from mtcore.formats import builtin_formats
from mtcore.numerics import block_amax, dequantize, dynamic_qparams, fake_quantize, quantize
from mtcore.testing import assert_same_bits

SYMMETRIC = [fmt for fmt in builtin_formats() if fmt.symmetric]
SOME = ["fp8", "fp8_row", "nvfp4", "mxfp4", "int4_b128", "mxfp6_e2m3", "nf4"]


def registered(name):
    """The operation, registered for the CPU with its reference."""
    space = "mtcore_test"
    if not hasattr(getattr(torch.ops, space), name):
        OPERATIONS[name].implement(space, OPERATIONS[name].reference, "CPU")
    return getattr(getattr(torch.ops, space), name).default


@pytest.mark.parametrize("fmt", list(builtin_formats()), ids=lambda fmt: fmt.name)
def test_a_key_says_everything_about_a_format(fmt):
    assert format_of_key(format_key(fmt)) == fmt


@pytest.mark.parametrize("fmt", SYMMETRIC, ids=lambda fmt: fmt.name)
def test_the_references_are_the_numerics(fmt):
    x, key = torch.randn(3, 160), format_key(fmt)
    qparams = dynamic_qparams(x, fmt)
    stored = quantize(x, qparams)
    assert_same_bits(OPERATIONS["fake_quantize"].reference(x, None, None, key), fake_quantize(x, qparams), "values")
    qdata, scale, scale_2 = OPERATIONS["quantize"].reference(x, None, None, key)
    assert_same_bits(qdata, stored.qdata, "codes")
    assert_same_bits(scale, qparams.scale, "scales")
    assert (scale_2.numel() == 0) == (fmt.outer is None)
    values = OPERATIONS["dequantize"].reference(qdata, scale, scale_2, 160, torch.float32, key)
    assert_same_bits(values, dequantize(stored), "dequantized values")


@pytest.mark.parametrize("name", SOME)
def test_the_fake_results_look_like_the_real_ones(formats, name):
    fmt, x = formats[name], torch.randn(5, 160, dtype=torch.bfloat16)
    key = format_key(fmt)
    qdata, scale, scale_2 = OPERATIONS["quantize"].reference(x, None, None, key)
    calls = {
        "fake_quantize": (x, None, None, key),
        "quantize": (x, None, None, key),
        "dequantize": (qdata, scale, scale_2, 160, torch.bfloat16, key),
        "block_amax": (x, fmt.block.rows, fmt.block.cols),
        "linear": (x, qdata, scale, scale_2, None, None, None, 5, key, ""),
    }
    for op, arguments in calls.items():
        torch.library.opcheck(registered(op), arguments, test_utils="test_faketensor")


def test_the_fake_results_of_calibration_look_like_the_real_ones(formats):
    x, key = torch.randn(5, 160, dtype=torch.bfloat16), format_key(formats["nvfp4"])
    calls = {
        "column_statistics": [(x, moments, histogram) for moments in (True, False) for histogram in (True, False)],
        "add_gram": [(torch.zeros(160, 160), x)],
        "sweep_amax": [(x, block_amax(x, formats["nvfp4"].block), torch.tensor(4.0), None, 12, 10, key)],
        "hadamard": [(x, 32, False)],
    }
    for op, several in calls.items():
        for arguments in several:
            torch.library.opcheck(registered(op), arguments, test_utils=("test_schema", "test_faketensor"))


def test_a_compiled_function_sees_one_opaque_call():
    op = registered("fake_quantize")
    key = format_key(SYMMETRIC[0])
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: op(x, None, None, key) + 1, fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 32)
    assert torch.equal(compiled(x), op(x, None, None, key) + 1)


def test_a_linear_layer_with_stored_weights_is_the_product_of_the_dequantized_ones(formats):
    weight, x, bias = torch.randn(24, 64), torch.randn(5, 64), torch.randn(24)
    key, input_key = format_key(formats["nvfp4"]), format_key(formats["fp8"])
    stored = OPERATIONS["quantize"].reference(weight, None, None, key)
    y = OPERATIONS["linear"].reference(x, *stored, torch.tensor([[2.0]]), None, bias, 24, key, input_key)
    seen = OPERATIONS["fake_quantize"].reference(x, torch.tensor([[2.0]]), None, input_key)
    values = OPERATIONS["dequantize"].reference(*stored, 64, torch.float32, key)
    assert torch.equal(y, torch.nn.functional.linear(seen, values, bias))

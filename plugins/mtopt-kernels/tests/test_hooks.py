"""The plugin's records: what they serve, what they refuse and why, and that loading them imports no Triton."""

import pickle
import subprocess
import sys

import pytest
import torch

from mtcore.backends import Use, choose_kernel
from mtcore.formats import builtin_formats
from mtcore.plugins import Registry
from mtopt_kernels import hooks, specs
from mtopt_kernels.constants import refusal

FORMATS = {fmt.name: fmt for fmt in builtin_formats()}
CPU = torch.device("cpu")


def test_on_a_machine_without_a_gpu_the_reference_is_chosen_and_the_reason_is_given():
    kernels = Registry.load([hooks], discover=False, strict=True).kernels
    choice = choose_kernel(Use("fake_quantize", FORMATS["nvfp4"], CPU), kernels.values())
    assert str(choice) == "fake_quantize nvfp4: torch.fake_quantize (cpu); triton.fake_quantize: needs a CUDA GPU"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("int4_b128_asym", "zero points"),
        ("int4_b128_fp8", "two stages"),
        ("nf4", "element nf4"),
    ],
)
def test_a_format_without_a_kernel_is_refused_with_its_reason(name, reason):
    assert reason in refusal(FORMATS[name])


def test_codes_of_4_6_and_8_bits_are_served_and_others_refused():
    for name in ("mxfp4", "mxfp6_e2m3", "mxfp6_e3m2", "int6_b64", "mxint8"):
        assert specs.refuses_codes(Use("quantize", FORMATS[name], CPU)) is None
    reason = specs.refuses_codes(Use("quantize", FORMATS["int5_b32"], CPU))
    assert reason == "has no kernel for codes of 5 bits in blocks of 1x32"


@pytest.mark.parametrize(
    ("op", "name", "reason"),
    [
        ("quantize", "mxfp8_e4m3", "needs sm_89, which casts to 8-bit floats"),
        ("fake_quantize", "nvfp4", "needs sm_89, which casts to 8-bit floats"),
        ("quantize", "mxfp6_e2m3", "needs sm_89, which casts to 8-bit floats"),
        ("dequantize", "mxfp6_e2m3", None),
        ("fake_quantize", "mxfp8_e5m2", None),
        ("quantize", "int4_b128", None),
        ("block_amax", "fp8_1x128", None),
    ],
)
def test_a_gpu_that_casts_to_no_8_bit_floats_is_left_what_needs_none(monkeypatch, op, name, reason):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    (kernel,) = (spec for spec in specs.streaming_specs() if spec.op == op)
    assert kernel.refuses(Use(op, FORMATS[name], torch.device("cuda"))) == reason


def test_every_float_and_block_integer_format_of_the_catalog_is_served():
    refused = {name for name, fmt in FORMATS.items() if specs.refuses_streaming(Use("fake_quantize", fmt, CPU))}
    assert refused == {name for name in FORMATS if "asym" in name} | {"int4_b128_fp8", "nf4"}


def test_collecting_the_records_imports_no_triton():
    code = (
        "import sys; from mtcore.plugins import Registry; from mtopt_kernels import hooks; "
        "Registry.load([hooks], discover=False, strict=True); sys.exit('triton' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("weight", "given", "shape", "reason"),
    [
        ("nvfp4", None, (64, 100), "needs in features that are a multiple of 128, not 100"),
        ("nvfp4", "nvfp4", (64, 128), "leaves inputs as they are"),
        ("fp8", "fp8", (64, 128), ""),
        ("nvfp4", None, (64, 128), None),
    ],
)
def test_the_nvfp4_product_says_what_it_needs(weight, given, shape, reason):
    use = Use("linear", FORMATS[weight], CPU, FORMATS[given] if given else None, shape)
    assert specs.refuses_nvfp4_linear(use) == reason


def test_nvfp4_by_nvfp4_is_refused_on_a_hopper_gpu_with_its_reason(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    use = Use("linear", FORMATS["nvfp4"], torch.device("cuda"), FORMATS["nvfp4"], (64, 128))
    assert specs.refuses_nvfp4_scaled_linear(use) == "dot_scaled needs sm_100"


def test_products_that_no_kernel_fuses_are_left_to_one_that_takes_plain_inputs():
    assert specs.refuses_fp8_linear(Use("linear", FORMATS["fp8"], CPU, FORMATS["fp8_row"])) is None
    assert specs.refuses_fp8_linear(Use("linear", FORMATS["fp8"], CPU, FORMATS["int8"])) is not None
    assert specs.refuses_dequantized_linear(Use("linear", FORMATS["int4_b64"], CPU)) is None
    assert specs.refuses_dequantized_linear(Use("linear", FORMATS["nf4"], CPU)) is not None


@pytest.mark.parametrize(
    ("weight", "given", "shape", "reason"),
    [
        ("int4_b128", None, (64, 256), None),
        ("int4_b128_full", None, (64, 256), None),
        ("int4_b128", None, (64, 100), "needs in features that are a multiple of 128, not 100"),
        ("int4_b64", None, (64, 256), "multiplies weights in blocks of 1x128"),
        ("int4_b128_asym", None, (64, 256), ""),
        ("int4_b128", "int8_row", (64, 256), "leaves inputs as they are"),
    ],
)
def test_the_int4_product_says_what_it_needs(weight, given, shape, reason):
    use = Use("linear", FORMATS[weight], CPU, FORMATS[given] if given else None, shape)
    assert specs.refuses_int4_linear(use) == reason


@pytest.mark.parametrize(
    ("weight", "given", "shape", "reason"),
    [
        ("int8_row", "int8_row_full", (64, 100), None),
        ("int8", "int8", None, None),
        ("int8_row", None, (64, 100), "multiplies int8 weights with int8 inputs, by tensor or by row"),
        ("int8_row", "mxint8", (64, 128), "multiplies int8 weights with int8 inputs, by tensor or by row"),
        ("fp8", "fp8", (64, 128), ""),
        ("int8_row", "int8", (64, 2**17), "adds up fewer than 131072 columns in int32, not 131072"),
    ],
)
def test_the_int8_product_says_what_it_needs(weight, given, shape, reason):
    use = Use("linear", FORMATS[weight], CPU, FORMATS[given] if given else None, shape)
    assert specs.refuses_int8_linear(use) == reason


def test_a_choice_names_only_kernels_that_are_made_for_its_formats(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    gpu, kernels = torch.device("cuda"), Registry.load([hooks], discover=False, strict=True).kernels.values()
    use = Use("linear", FORMATS["fp8"], gpu, FORMATS["fp8"], (64, 128))
    assert str(choose_kernel(use, kernels)) == "linear fp8 x fp8: triton.fp8_linear (cuda sm_90)"
    use = Use("linear", FORMATS["nvfp4"], gpu, FORMATS["nvfp4"], (64, 128))
    assert str(choose_kernel(use, kernels)) == (
        "linear nvfp4 x nvfp4: torch.linear (cuda sm_90); triton.nvfp4_linear: leaves inputs as they are; "
        "triton.nvfp4_scaled_linear: dot_scaled needs sm_100; triton.dequantized_linear: leaves inputs as they are"
    )


def test_what_models_hold_of_a_record_is_pickled_by_its_name():
    for spec in specs.kernel_specs():
        for function in (spec.run, spec.together, spec.prepare):
            assert pickle.loads(pickle.dumps(function)) is function

"""The plugin's kernels as records, with what they refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec

import torch

from mtcore.backends import KernelSpec, Use
from mtcore.formats import FP32, PER_ROW, PER_TENSOR, WHOLE, FloatElement, IntElement, TensorFormat
from mtcore.formats.catalog import FP8, FP8_ROW, FP8_RUN, FP8_TILE, NVFP4, NVFP4_FP8
from mtopt_kernels import ops
from mtopt_kernels.constants import constants_of, refusal
from mtopt_kernels.prepack import CHUNK, prepack_int4, prepack_nvfp4
from mtopt_kernels.sizes import LONGEST_INNER

OLDEST = (8, 0)
"""The compute capability from which on Triton 3.6 is made for NVIDIA's GPUs."""
CASTING = (8, 9)
"""That from which on GPUs cast to 8-bit floats."""


def kernel_specs() -> Iterator[KernelSpec]:
    """All records."""
    yield from streaming_specs()
    yield from calibration_specs()
    yield from linear_specs()


def streaming_specs() -> Iterator[KernelSpec]:
    """Kernels that read a matrix once."""
    yield KernelSpec("triton.fake_quantize", "fake_quantize", on_gpu(refuses_streaming), ops.fake_quantize)
    yield KernelSpec("triton.quantize", "quantize", on_gpu(refuses_codes), ops.quantize)
    yield KernelSpec("triton.dequantize", "dequantize", on_gpu(refuses_codes), ops.dequantize)
    yield KernelSpec("triton.block_amax", "block_amax", on_gpu(refuses_amax), ops.block_amax)


def calibration_specs() -> Iterator[KernelSpec]:
    """Kernels for what a calibration asks of weights and activations."""
    yield KernelSpec("triton.column_statistics", "column_statistics", refuses_device, ops.column_statistics)
    yield KernelSpec("triton.add_gram", "add_gram", refuses_device, ops.add_gram)
    yield KernelSpec("triton.sweep_amax", "sweep_amax", on_gpu(refuses_sweep), ops.sweep_amax)
    yield KernelSpec("triton.hadamard", "hadamard", refuses_device, ops.hadamard)


def linear_specs() -> Iterator[KernelSpec]:
    """Products with stored weights."""
    products = (
        ("nvfp4_linear", refuses_nvfp4_linear, ops.nvfp4_linear, prepack_nvfp4, ops.nvfp4_linears),
        ("nvfp4_scaled_linear", refuses_nvfp4_scaled_linear, ops.nvfp4_scaled_linear, None, None),
        ("nvfp4_fp8_linear", refuses_nvfp4_fp8_linear, ops.nvfp4_fp8_linear, prepack_nvfp4, ops.nvfp4_fp8_linears),
        ("int4_linear", refuses_int4_linear, ops.int4_linear, prepack_int4, ops.int4_linears),
        ("fp8_linear", refuses_fp8_linear, ops.fp8_linear, None, ops.fp8_linears),
        ("int8_linear", refuses_int8_linear, ops.int8_linear, None, ops.int8_linears),
    )
    for name, refuses, run, prepare, together in products:
        yield KernelSpec(f"triton.{name}", "linear", on_gpu(refuses), run, 20, prepare, together)
    yield KernelSpec(
        "triton.dequantized_linear", "linear", on_gpu(refuses_dequantized_linear), ops.dequantized_linear, 10
    )


def on_gpu(refuses: Callable[[Use], str | None]) -> Callable[[Use], str | None]:
    """What is wrong with the device, or else with the rest of a use; "" if the kernel is for other formats."""

    def refuses_both(use: Use) -> str | None:
        reason = refuses(use)
        return reason if reason == "" else refuses_device(use) or reason

    return refuses_both


def refuses_device(use: Use) -> str | None:
    """What is wrong with a device."""
    if find_spec("triton") is None:
        return "triton is not installed"
    if use.device.type != "cuda":
        return "needs a CUDA GPU"
    capability = torch.cuda.get_device_capability(use.device)
    if capability < OLDEST:
        return "needs sm_80"
    if capability < CASTING and _casts(use):
        return "needs sm_89, which casts to 8-bit floats"
    return None


def _casts(use: Use) -> bool:
    """Whether a kernel for a use has numbers cast to 8-bit floats or from them."""
    if use.format is None or refusal(use.format) is not None or use.op == "block_amax":
        return False
    constants = constants_of(use.format)
    return constants.e_is_e4m3 or constants.scale == "float" or (use.op == "quantize" and constants.e_carrier != "")


def format_of(use: Use) -> TensorFormat:
    """The format of a use that has one."""
    assert use.format is not None, use
    return use.format


def refuses_streaming(use: Use) -> str | None:
    """What is wrong for kernels that read a matrix once and write something of its shape."""
    return refusal(format_of(use)) or refuses_amax(use)


def refuses_codes(use: Use) -> str | None:
    """The same for those that read or write codes."""
    fmt = format_of(use)
    in_row = fmt.block.rows == 1 and fmt.block != PER_ROW
    if fmt.element.bits not in ((4, 6, 8) if in_row else (8,)):
        return f"has no kernel for codes of {fmt.element.bits} bits in blocks of {fmt.block}"
    return refuses_streaming(use)


def refuses_sweep(use: Use) -> str | None:
    """What is wrong for a search among all scales."""
    fmt = format_of(use)
    if not isinstance(fmt.inner.element, FloatElement) or fmt.block.rows != 1 or fmt.block == PER_ROW:
        return "sweeps scales of blocks in a row that are small floats"
    return refuses_streaming(use)


def refuses_amax(use: Use) -> str | None:
    """What is wrong with a block."""
    fmt = format_of(use)
    block = fmt.block
    if block in (PER_ROW, PER_TENSOR):
        return None
    extents = (block.rows, block.cols)
    if WHOLE in extents or any(extent & (extent - 1) for extent in extents) or block.cols < 16:
        return f"has no kernel for blocks of {block}"
    if block.rows * block.cols > 2**14 or (block.rows > 1 and fmt.outer is not None):
        return f"has no kernel for blocks of {block}"
    return None


def refuses_nvfp4_linear(use: Use) -> str | None:
    """What is wrong for words of NVFP4 and 16-bit activations."""
    if use.format != NVFP4:
        return ""
    if use.input_format is not None:
        return "leaves inputs as they are"
    return refuses_words(use)


def refuses_nvfp4_fp8_linear(use: Use) -> str | None:
    """What is wrong for words of NVFP4 whose codes times scales fit into FP8, and FP8 activations."""
    if use.format != NVFP4_FP8:
        return ""
    if use.input_format != FP8:
        return "multiplies nvfp4_fp8 weights with fp8"
    return refuses_words(use)


def refuses_int4_linear(use: Use) -> str | None:
    """What is wrong for words of INT4 and 16-bit activations."""
    fmt = format_of(use)
    if not _is_integer(fmt, 4):
        return ""
    if fmt.block.rows != 1 or fmt.block.cols != CHUNK:
        return f"multiplies weights in blocks of 1x{CHUNK}"
    if use.input_format is not None:
        return "leaves inputs as they are"
    return refuses_words(use)


def refuses_words(use: Use) -> str | None:
    """What is wrong with sizes or a card for weights that are laid out in words."""
    if use.shape is not None and use.shape[1] % CHUNK:
        return f"needs in features that are a multiple of {CHUNK}, not {use.shape[1]}"
    return refuses_before_sm_90(use)


def refuses_before_sm_90(use: Use) -> str | None:
    """What is wrong with a card for tensor cores that groups of warps feed, and for kernels that start early."""
    if use.device.type == "cuda" and torch.cuda.get_device_capability(use.device) < (9, 0):
        return "needs sm_90"
    return None


def _is_integer(fmt: TensorFormat, bits: int) -> bool:
    """Whether a format has whole numbers of so many bits and fp32 scales."""
    element = fmt.element
    whole = isinstance(element, IntElement) and element.bits == bits and not element.fraction_bits
    return whole and refusal(fmt) is None and fmt.outer is None and fmt.inner.element == FP32


def refuses_nvfp4_scaled_linear(use: Use) -> str | None:
    """What is wrong for two factors in NVFP4."""
    if use.format != NVFP4 or use.input_format != NVFP4:
        return ""
    if use.shape is not None and use.shape[1] % NVFP4.block.cols:
        return f"needs in features that are a multiple of {NVFP4.block.cols}, not {use.shape[1]}"
    if use.device.type == "cuda" and torch.cuda.get_device_capability(use.device) < (10, 0):
        return "dot_scaled needs sm_100"
    return None


def refuses_fp8_linear(use: Use) -> str | None:
    """What is wrong for two factors in FP8."""
    if use.format not in (FP8, FP8_ROW, FP8_TILE):
        return ""
    by_block = (use.format, use.input_format) == (FP8_TILE, FP8_RUN)
    if not by_block and (use.format not in (FP8, FP8_ROW) or use.input_format not in (FP8, FP8_ROW)):
        return "multiplies fp8 or fp8_row with fp8 or fp8_row, or fp8_128x128 with fp8_1x128"
    return refuses_before_sm_90(use)


def refuses_int8_linear(use: Use) -> str | None:
    """What is wrong for two factors in INT8."""
    fmt = format_of(use)
    if not _is_integer(fmt, 8):
        return ""
    factors = (fmt, use.input_format)
    if any(f is None or not _is_integer(f, 8) or f.block not in (PER_ROW, PER_TENSOR) for f in factors):
        return "multiplies int8 weights with int8 inputs, by tensor or by row"
    if use.shape is not None and use.shape[1] >= LONGEST_INNER:
        return f"adds up fewer than {LONGEST_INNER} columns in int32, not {use.shape[1]}"
    return refuses_before_sm_90(use)


def refuses_dequantized_linear(use: Use) -> str | None:
    """What is wrong for weights that are dequantized in every product."""
    if use.input_format is not None:
        return "leaves inputs as they are"
    return refuses_codes(use)

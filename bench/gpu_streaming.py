"""Kernels that read a matrix once, and quantizers through them, for gpu_kernels.py; beside nvidia-modelopt's."""

from __future__ import annotations

import torch
from gpu_bench import Bench, differing
from gpu_peers import peers
from torch import Tensor

from mtcore.backends import Use, choose_kernel, format_key, reference
from mtcore.formats import TensorFormat, catalog
from mtcore.nn import TensorQuantizer
from mtopt_kernels import launch
from mtopt_kernels.specs import kernel_specs

ROWS, COLS = 4096, 14336
ELEMENTS = ROWS * COLS
FORMATS = (
    catalog.FP8, catalog.FP8_ROW, catalog.FP8_TILE, catalog.FP8_RUN, catalog.NVFP4, catalog.MXFP8_E4M3,
    catalog.MXFP4, catalog.MXFP6_E2M3, catalog.MXINT8, catalog.INT8_TENSOR, catalog.INT8_ROW, catalog.INT4_B128,
)  # fmt: skip


def streaming(bench: Bench) -> None:
    """Fake quantize, quantize, dequantize and amax."""
    xs = [torch.randn(ROWS, COLS, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    for fmt in FORMATS:
        if not bench.formats or fmt.name in bench.formats:
            one_format(bench, fmt, xs)


def one_format(bench: Bench, fmt: TensorFormat, xs: list[Tensor]) -> None:
    key, x = format_key(fmt), xs[0]
    outer = torch.full((), 6.0, device="cuda") if fmt.outer is not None else None
    amax = reference.block_amax(x, fmt.block.rows, fmt.block.cols)
    codes = reference.quantize(x, None, outer, key)
    scale_2 = codes[2] if codes[2].numel() else None
    if bench.timing:
        wrong = differing(launch.fake_quantize(x, None, outer, key), reference.fake_quantize(x, None, outer, key))
        given = (x, amax * 0.9, outer, key)
        wrong += differing(launch.fake_quantize(*given), reference.fake_quantize(*given))
        wrong += sum(map(differing, launch.quantize(x, None, outer, key), codes))
        values = reference.dequantize(*codes[:2], scale_2, COLS, x.dtype, key)
        wrong += differing(launch.dequantize(*codes[:2], scale_2, COLS, x.dtype, key), values)
        bench.note(f"-- {fmt.name}: {wrong} wrong values")
        bench.add(f"wrong values {fmt.name}", count=wrong)
    tensor_wide = fmt.block.rows == -1
    own = [lambda x=x: launch.fake_quantize(x, None, outer, key) for x in xs]
    bench.row(f"fake {fmt.name} dynamic", own, (6 if tensor_wide else 4) * ELEMENTS)
    given_calls = [lambda x=x: launch.fake_quantize(x, amax, outer, key) for x in xs]
    bench.row(f"fake {fmt.name} static", given_calls, 4 * ELEMENTS + 4 * amax.numel())
    size = 2 * ELEMENTS + ELEMENTS * fmt.element.bits / 8 + codes[1].numel() * codes[1].element_size()
    known = amax if tensor_wide else None
    bench.row(f"quantize {fmt.name}", [lambda x=x: launch.quantize(x, known, outer, key) for x in xs], size)
    copies = [(codes[0].clone(), codes[1].clone()) for _ in range(4)]
    unpack = [lambda c=c: launch.dequantize(*c, scale_2, COLS, x.dtype, key) for c in copies]
    bench.row(f"dequantize {fmt.name}", unpack, size)
    block = (fmt.block.rows, fmt.block.cols)
    bench.row(
        f"amax {fmt.block}", [lambda x=x: launch.block_amax(x, *block) for x in xs], 2 * ELEMENTS + 4 * amax.numel()
    )


def quantizers(bench: Bench) -> None:
    """Through TensorQuantizer.forward, eager."""
    if not bench.timing:
        return
    xs = [torch.randn(ROWS, COLS, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    modes = (
        (catalog.FP8, "static"), (catalog.NVFP4, "dynamic_blocks"), (catalog.INT8_ROW, "dynamic"),
        (catalog.MXFP8_E4M3, "dynamic"), (catalog.INT4_B128, "dynamic"),
    )  # fmt: skip
    for fmt, mode in modes:
        if bench.formats and fmt.name not in bench.formats:
            continue
        quantizer = TensorQuantizer(fmt, mode).cuda()
        if mode == "static":
            quantizer.set_amax(torch.full((1, 1), 5.0, device="cuda"), None)
        if mode == "dynamic_blocks":
            quantizer.set_amax(None, torch.full((), 5.0, device="cuda"))
        quantizer.kernel = choose_kernel(Use("fake_quantize", fmt, torch.device("cuda")), kernel_specs())
        calls = [lambda x=x, quantizer=quantizer: quantizer(x) for x in xs]
        with torch.no_grad():
            bench.row(f"TensorQuantizer {fmt.name}", calls * 8, 4 * ELEMENTS, eager=True)
    for name, call, size in () if bench.formats else peers(xs[0]):
        bench.row(f"modelopt {name}", [call] * 6, size, eager=True)

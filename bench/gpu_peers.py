"""What others offer for the same: nvidia-modelopt, and torch's own INT4 product; for gpu_kernels.py."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def peers(x: Tensor) -> Iterator[tuple[str, Callable[[], object], float]]:
    """What nvidia-modelopt offers for the same; its extensions are built when they are first used."""
    try:
        from modelopt.torch.quantization.config import QuantizerAttributeConfig
        from modelopt.torch.quantization.nn import TensorQuantizer as Peer
        from modelopt.torch.quantization.qtensor import FP8QTensor, INT4QTensor, MXFP8QTensor, NVFP4QTensor
        from modelopt.torch.quantization.utils import reduce_amax
    except ImportError as error:
        print(f"nvidia-modelopt is not measured: {error}", file=sys.stderr)
        return
    settings = {
        "fp8": {"num_bits": (4, 3)},
        "nvfp4": {"num_bits": (2, 1), "block_sizes": {-1: 16, "type": "dynamic", "scale_bits": (4, 3)}},
        "int8_row": {"num_bits": 8, "axis": 0},
        "mxfp8": {"num_bits": (4, 3), "block_sizes": {-1: 32, "type": "dynamic", "scale_bits": (8, 0)}},
        "int4_b128": {"num_bits": 4, "block_sizes": {-1: 128}},
    }
    for name, attributes in settings.items():
        quantizer = Peer(QuantizerAttributeConfig(**attributes)).cuda()
        if name in ("fp8", "nvfp4"):
            quantizer.amax = torch.full((), 5.0, device="cuda")
        yield f"TensorQuantizer {name}", lambda quantizer=quantizer: quantizer(x), 4 * x.numel()
    yield "reduce_amax tensor", lambda: reduce_amax(x), 2 * x.numel()
    yield "reduce_amax row", lambda: reduce_amax(x, axis=1), 2 * x.numel()
    yield "pack nvfp4", lambda: NVFP4QTensor.quantize(x, 16), 2.5625 * x.numel()
    packed, scale, scale_2 = NVFP4QTensor.quantize(x, 16)
    yield (
        "unpack nvfp4",
        lambda: packed.dequantize(scale=scale, double_scale=scale_2, block_sizes={-1: 16}),
        (2.5625 * x.numel()),
    )
    yield "pack fp8", lambda: FP8QTensor.quantize(x), 3 * x.numel()
    yield "pack mxfp8", lambda: MXFP8QTensor.quantize(x), 3.03 * x.numel()
    yield "pack int4_b128", lambda: INT4QTensor.quantize(x, 128), 2.53 * x.numel()


def tinygemm(like: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weights of torch's own INT4 product, in blocks of 128: enough of them to get past the cache."""
    features, inner = like.shape
    count = max(2, min(8, int(2.5e8 // (features * inner / 2)) + 1))
    scales = torch.ones(inner // 128, features, 2, device="cuda", dtype=torch.bfloat16)
    codes = torch.randint(0, 256, (features, inner // 2), device="cuda", dtype=torch.uint8)
    return [(torch.ops.aten._convert_weight_to_int4pack(codes, 8).clone(), scales) for _ in range(count)]

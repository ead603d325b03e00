"""Operators that vLLM has no CPU build of, in plain torch; loading, names, scales and schemes stay vLLM's own.

On a CPU, vLLM 0.32 reads FP8 checkpoints with static scales and NVFP4 checkpoints, and then calls operators that
only its GPU builds have. `supply()` before `LLM(...)` gives it these three: rounding to FP8 with a given scale, the
same fused with SiLU and a product, and vLLM's own emulation of NVFP4 products, which it lists for GPUs only.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

E4M3_MAX = torch.finfo(torch.float8_e4m3fn).max
_KEPT: list[torch.library.Library] = []
"""torch forgets what a library implements when the library object is gone."""


def supply() -> None:
    """Add what is missing, once a process."""
    if not _KEPT:
        _round_to_fp8()
        _fused_activation()
        _nvfp4_emulation()


def to_fp8(x: Tensor, scale: Tensor) -> Tensor:
    return (x.float() / scale.float().reshape(())).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)


def _round_to_fp8() -> None:
    import vllm._custom_ops as ops

    original = ops.scaled_fp8_quant

    def scaled_fp8_quant(input: Tensor, scale: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        if scale is None or scale.numel() != 1:
            return original(input, scale, *args, **kwargs)
        codes = to_fp8(input, scale)
        if kwargs.get("output") is not None:
            codes = kwargs["output"].copy_(codes)
        return codes, scale

    ops.scaled_fp8_quant = scaled_fp8_quant


def _fused_activation() -> None:
    import vllm.model_executor.layers.fusion.fused_act_quant  # noqa: F401  it looks the operator up

    library = torch.library.Library("_C", "FRAGMENT")
    _KEPT.append(library)
    if hasattr(torch.ops._C, "silu_and_mul_quant"):
        return

    def silu_and_mul_quant(out: Tensor, x: Tensor, scale: Tensor) -> None:
        gate, up = x.chunk(2, -1)
        out.copy_(to_fp8(torch.nn.functional.silu(gate) * up, scale))

    library.define("silu_and_mul_quant(Tensor(a!) out, Tensor input, Tensor scale) -> ()")
    library.impl("silu_and_mul_quant", silu_and_mul_quant, "CPU")


def _nvfp4_emulation() -> None:
    import vllm.model_executor.kernels.linear as linear
    from vllm.model_executor.kernels.linear.nvfp4.emulation import EmulationNvFp4LinearKernel
    from vllm.model_executor.layers.quantization.utils.nvfp4_emulation_utils import dequantize_to_dtype
    from vllm.platforms import PlatformEnum

    class WeightOnly(EmulationNvFp4LinearKernel):
        """The same with the input as it is."""

        def apply_weights(self, layer: Any, x: Tensor, bias: Tensor | None = None) -> Tensor:
            codes, scale, scale_2 = (
                layer.weight.data.view(torch.uint8),
                layer.weight_scale.data,
                layer.weight_global_scale,
            )
            weight = dequantize_to_dtype(codes, scale, scale_2, x.dtype, 16, swizzle=False)
            return torch.nn.functional.linear(x, weight, bias)

    original = linear.init_nvfp4_linear_kernel

    def chosen(use_a16: bool = False) -> Any:
        return WeightOnly(linear.NvFp4LinearLayerConfig()) if use_a16 else original(use_a16=use_a16)

    linear._POSSIBLE_NVFP4_KERNELS[PlatformEnum.CPU] = [EmulationNvFp4LinearKernel]
    for name, module in list(sys.modules.items()):
        if name.startswith("vllm.") and getattr(module, "init_nvfp4_linear_kernel", None) is original:
            module.init_nvfp4_linear_kernel = chosen

"""Why vLLM does not serve some checkpoints on some devices although it knows their format: causes in vLLM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        "cpu",
        "WNA16 MoE backend",
        "no CPU kernel for experts in 4 bits (`fused_moe/oracle/int_wna16.py`, `select_wna16_moe_backend`)",
    ),
    (
        "cpu",
        "Unsupported FP8 MoE backend",
        "no CPU kernel for FP8 experts (`fused_moe/oracle/fp8.py`, `convert_to_fp8_moe_kernel_format`)",
    ),
    (
        "cpu",
        "No Int8 MoE backend",
        "no CPU kernel for INT8 experts (`fused_moe/oracle/int8.py`, `select_int8_moe_backend`)",
    ),
    (
        "cpu",
        "No NvFp4 MoE backend",
        "no CPU kernel for NVFP4 experts (`fused_moe/oracle/nvfp4.py`, `select_nvfp4_moe_backend`)",
    ),
    (
        "cpu",
        "gptq_marlin_repack",
        "MXFP4 experts go to Marlin, which a CPU lacks (`quantization/utils/marlin_utils_fp4.py`)",
    ),
    (
        "cpu",
        "requires AMX",
        "FP8 blocks need AMX on a CPU (`kernels/linear`, `CPUFp8W8A8BlockScaledMMKernel`)",
    ),
    (
        "cpu",
        "implement the WNA16 linear layer",
        "no CPU kernel for weight-only INT8 (`kernels/linear`, `choose_mp_linear_kernel`)",
    ),
    (
        "cpu",
        "implement the MXFP4 linear layer",
        "no CPU kernel for MXFP4 (`kernels/linear`, `init_mxfp4_linear_kernel`)",
    ),
    (
        "cpu",
        "implement the MXFP8 linear layer",
        "no CPU kernel for MXFP8 (`kernels/linear`, `init_mxfp8_linear_kernel`)",
    ),
    (
        "cpu",
        "Failed to find a kernel that can implement the ScaledMM linear layer",
        "no CPU kernel for weight-only FP8 (`kernels/linear`, `init_wfp8_a16_linear_kernel`)",
    ),
    (
        "cpu",
        "No MXFP4 MoE backend",
        "no CPU kernel for MXFP4 experts (`fused_moe/oracle/mxfp4.py`, `select_mxfp4_moe_backend`)",
    ),
    (
        "cpu",
        "num_bits=4, type='int'",
        "W4A8 is for sm_90 and newer (`compressed_tensors.py`, `_is_fp8_w4a8_sm90`)",
    ),
    (
        "cpu",
        "torch.float32 is not supported",
        "this dialect is served in 16 bits only (`get_supported_act_dtypes` of its configuration)",
    ),
    (
        "cpu",
        "cpu_gemm_wna16",
        "the CPU's product of 4-bit weights is in 16 bits only (`cpu_gemm_wna16`)",
    ),
    (
        "gpu",
        "is an override but is has not been added",
        "0.24 forgets MXFP8 in a list of its own (`config/model.py`, `_verify_quantization`); 0.32's has it",
    ),
    (
        "gpu",
        "VLLM_TEST_FORCE_FP8_MARLIN",
        "0.24 gives weight-only FP8 no kernel on GPUs that have FP8 products, unless that variable is set "
        "(`kernels/linear`, `MarlinFP8ScaledMMLinearKernel`); 0.32's source does",
    ),
    (
        "gpu",
        "assert self.group_size == -1",
        "0.24 knows INT8 experts with a scale a row by group_size -1 and not by none "
        "(`compressed_tensors_moe_wna16_marlin.py`, `__init__`); 0.32 has another class",
    ),
    (
        "gpu",
        "KVCacheScaleParameter.weight_loader() takes 2",
        "0.24's loader of dense Qwen models hands cache scales on with an argument too many "
        "(`models/qwen2.py`, `load_weights`); 0.32's does not",
    ),
    (
        "gpu",
        "CompileTimeAssertionFailure",
        "the kernel wants 256 output features or more, and this model is too small "
        "(`third_party/triton_kernels/matmul_ogs_details/_matmul_ogs.py`)",
    ),
    (
        "gpu",
        "output must have dtype BF16",
        "an FP8 cache is served in bf16 only (`vllm_flash_attn`, `flash_attn_varlen_func`)",
    ),
    (
        "gpu",
        "marlin_mm",
        "Marlin has no fp16 product of weights with MX scales (`csrc/libtorch_stable/quantization/marlin`)",
    ),
    (
        "gpu",
        "Only bfloat16 output type",
        "W4A8 is served in bf16 only (`kernels/linear`, `CutlassW4A8LinearKernel`)",
    ),
    (
        "gpu",
        "torch.float16 is not supported",
        "this format is served in bf16 only (`get_supported_act_dtypes` of its configuration)",
    ),
)
"""On which device, a piece of what vLLM says, and the cause with its place in vLLM."""


def cause_of(row: Mapping[str, Any]) -> str:
    """The cause that holds for a row; nothing where none is known."""
    said = row.get("why", "")
    if said.startswith("AssertionError: ") and any("wna16_marlin.py: __init__" in place for place in row["at"]):
        said = "assert self.group_size == -1"
    return next((cause for device, piece, cause in CAUSES if device == row.get("device") and piece in said), "")

"""The table of clients: which layouts each runs, with what, and which it refuses.

Facts: vLLM 0.32 (`quantization/modelopt.py`, `compressed_tensors/compressed_tensors.py`), TensorRT-LLM
(`_torch/modules/linear.py`, `models/quant_config_utils.py`, `quantization/modelopt_config.py`), transformers 5.23
with compressed-tensors 0.20, SGLang (`quantization/modelopt_quant.py`, `compressed_tensors/`). Read in their
sources, and tried for vLLM and transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mtopt_hf.lint.config import Declared, Scheme


@dataclass(frozen=True)
class Support:
    """Whether a client runs a layout, and how or why not. `runs` None: nothing was read or tried about it."""

    runs: bool | None
    how: str


UNKNOWN = Support(None, "not known to this linter")

_NVFP4 = Support(True, "FP4 kernels from sm_100 on, weight-only (Marlin) on sm_80 to sm_90")
_NVFP4_A16 = Support(True, "weight-only FP4 (Marlin), sm_80 or newer")
_FP8 = Support(True, "FP8 kernels from sm_89 on, weight-only (Marlin) on sm_80")
_BLOCK = Support(True, "FP8 block kernels (DeepGEMM, CUTLASS, Triton), sm_89 or newer")
_INT8 = Support(True, "INT8 kernels (CUTLASS on GPUs, oneDNN on CPUs)")
_INT4 = Support(True, "weight-only INT4 (Marlin), sm_80 or newer")
_DECOMPRESSED = Support(True, "decompressed to floats in the first forward; inputs are quantized in the forward")
_TRT_CT = "TensorRT-LLM reads of compressed-tensors FP8 (channel or block weights), NVFP4 and MXFP4 only"
_VLLM_ALGOS = "FP8, FP8_PER_CHANNEL_PER_TOKEN, FP8_PB_WO, NVFP4, W4A16_NVFP4, MXFP8, MIXED_PRECISION"


def _refused(why: str) -> Support:
    return Support(False, why)


_VLLM: Mapping[tuple[str, str], Support] = {
    ("modelopt", "FP8"): _FP8,
    ("modelopt", "FP8_PER_CHANNEL_PER_TOKEN"): _FP8,
    ("modelopt", "FP8_PB_WO"): _BLOCK,
    ("modelopt", "NVFP4"): _NVFP4,
    ("modelopt", "W4A16_NVFP4"): _NVFP4_A16,
    ("modelopt", "MXFP8"): Support(True, "MXFP8 kernels from sm_100 on, Marlin before"),
    ("compressed-tensors", "nvfp4"): _NVFP4,
    ("compressed-tensors", "mxfp4"): Support(True, "weight-only FP4 (Marlin), sm_80 or newer"),
    ("compressed-tensors", "mxfp6"): _refused("it has no scheme for 6-bit floats"),
    ("compressed-tensors", "mxfp8"): Support(True, "MXFP8 kernels from sm_100 on, Marlin before"),
    ("compressed-tensors", "fp8"): _FP8,
    ("compressed-tensors", "int8"): _INT8,
    ("compressed-tensors", "pack"): _INT4,
    ("fp8", "fp8"): _BLOCK,
    ("gptq", "gptq"): _INT4,
    ("awq", "awq"): _INT4,
}

_TRTLLM: Mapping[tuple[str, str], Support] = {
    **{
        ("modelopt", algo): Support(True, how)
        for algo, how in {
            "FP8": "FP8 Q/DQ linear, sm_89 or newer",
            "FP8_PER_CHANNEL_PER_TOKEN": "FP8 row-wise linear, sm_90 or newer",
            "FP8_PB_WO": "FP8 block scales (squeezed from four axes), sm_89 or newer",
            "NVFP4": "NVFP4 linear, sm_100 or newer",
            "NVFP4_AWQ": "NVFP4 linear, input multiplied by pre_quant_scale, sm_100 or newer",
            "W4A8_NVFP4_FP8": "W4A8 NVFP4 linear, sm_100 or newer",
            "W4A8_MXFP4_FP8": "W4A8 MXFP4 linear, sm_100 or newer",
            "W4A16_AWQ": "weight-only INT4 linear, sm_80 or newer",
            "W4A8_AWQ": "W4A8 linear, sm_89 or newer",
            "W8A16": "weight-only INT8 linear, sm_80 or newer",
        }.items()
    },
    ("modelopt", "W8A8_SQ_PER_CHANNEL"): _refused("its PyTorch linear has no INT8 SmoothQuant and raises"),
    ("modelopt", "W4A16_NVFP4"): _refused("its list of algorithms has no W4A16_NVFP4"),
    ("modelopt", "MXFP8"): _refused("its linear dispatch has no MXFP8"),
    ("modelopt", "MXFP4"): _refused("its list of algorithms has no MXFP4 for the modelopt dialect"),
    ("modelopt", "NVFP4_SVD"): _refused("its linear dispatch has no NVFP4_SVD"),
    ("compressed-tensors", "nvfp4"): Support(True, "NVFP4 linear, sm_100 or newer"),
    ("compressed-tensors", "mxfp4"): Support(True, "W4A16 MXFP4"),
    ("compressed-tensors", "fp8"): Support(True, "FP8 row-wise or block linear"),
    ("compressed-tensors", "mxfp6"): _refused(_TRT_CT),
    ("compressed-tensors", "mxfp8"): _refused(_TRT_CT),
    ("compressed-tensors", "int8"): _refused(_TRT_CT),
    ("compressed-tensors", "pack"): _refused(_TRT_CT),
    ("fp8", "fp8"): Support(True, "FP8 block scales"),
}

_CT_KINDS = ("nvfp4", "mxfp4", "mxfp6", "mxfp8", "fp8", "int8", "pack")
_TRANSFORMERS: Mapping[tuple[str, str], Support] = {
    **{("compressed-tensors", kind): _DECOMPRESSED for kind in _CT_KINDS},
    ("fp8", "fp8"): Support(True, "fine-grained FP8, a GPU of sm_89 or newer"),
    ("gptq", "gptq"): Support(True, "GPTQModel, which must be installed"),
    ("awq", "awq"): Support(True, "GPTQModel's AWQ kernels, which must be installed"),
}

_SGLANG: Mapping[tuple[str, str], Support] = {
    ("modelopt", "FP8"): Support(True, "FP8 kernels, sm_89 or newer"),
    ("modelopt", "NVFP4"): Support(True, "FP4 kernels, sm_100 or newer"),
    ("modelopt", "NVFP4_AWQ"): Support(True, "FP4 kernels with pre_quant_scale, newest versions only"),
    ("modelopt", "FP8_PER_CHANNEL_PER_TOKEN"): _refused("it takes any FP8 algorithm for one scale a tensor"),
    ("modelopt", "FP8_PB_WO"): _refused("it takes any FP8 algorithm for one scale a tensor"),
    ("compressed-tensors", "nvfp4"): Support(True, "FP4 kernels, sm_100 or newer"),
    ("compressed-tensors", "mxfp4"): Support(True, "weight-only FP4, newest versions only"),
    ("compressed-tensors", "mxfp6"): _refused("it has no scheme for 6-bit floats"),
    ("compressed-tensors", "fp8"): Support(True, "FP8 kernels, sm_89 or newer"),
    ("compressed-tensors", "int8"): Support(True, "INT8 kernels, sm_80 or newer"),
    ("compressed-tensors", "pack"): Support(True, "weight-only INT4 (Marlin), sm_80 or newer"),
    ("fp8", "fp8"): Support(True, "FP8 block kernels, sm_89 or newer"),
    ("gptq", "gptq"): Support(True, "weight-only INT4 (Marlin), sm_80 or newer"),
    ("awq", "awq"): Support(True, "weight-only INT4 (Marlin), sm_80 or newer"),
}

_TABLES = {"vllm": _VLLM, "trtllm": _TRTLLM, "transformers": _TRANSFORMERS, "sglang": _SGLANG}


def support(client: str, says: Declared, scheme: Scheme) -> Support:
    """Whether a client of ours runs a scheme; `UNKNOWN` for clients and layouts that are not in the tables."""
    found = _TABLES.get(client, {}).get((says.method, scheme.kind))
    if found is not None:
        return _narrowed(client, says, scheme) or found
    if says.method == "modelopt" and client == "vllm":
        return _refused(f"of the modelopt dialect it reads {_VLLM_ALGOS}")
    if says.method == "modelopt" and client == "sglang":
        return _refused("of the modelopt dialect it reads FP8 and NVFP4")
    if says.method == "modelopt" and client == "transformers":
        return _refused("it knows no quant_method 'modelopt'")
    return UNKNOWN


def _narrowed(client: str, says: Declared, scheme: Scheme) -> Support | None:
    """What the arguments of a scheme rule out."""
    if says.method == "modelopt" and client == "trtllm" and scheme.kind == "W4A8_NVFP4_FP8" and scheme.group == 16:
        return _refused(f"its W4A8 NVFP4 linear has blocks of 32, not of {scheme.group}")
    if says.method != "compressed-tensors":
        return None
    inputs = scheme.inputs or {}
    strategy = scheme.weights.get("strategy")
    pairs = (("channel", "token"), ("block", "group"))
    if client == "trtllm" and scheme.kind == "fp8" and (strategy, inputs.get("strategy")) not in pairs:
        return _refused("it reads FP8 with channel weights and token inputs, or block weights and group inputs")
    if client == "trtllm" and scheme.kind == "nvfp4" and scheme.inputs is None:
        return _refused("it has no NVFP4 weights without quantized inputs in this dialect")
    alone = client in ("vllm", "sglang") and scheme.inputs is None
    if alone and scheme.kind == "pack" and scheme.bits not in (4, 8):
        return Support(None, f"it has a scheme for {scheme.bits} bits; which devices have a kernel was not tried")
    if alone and scheme.kind == "int8":
        return _refused("it reads weight-only INT8 as pack-quantized only")
    return None

"""Which client runs what: the one table, which exporters ask about plans and the linter about checkpoints.

Facts: vLLM 0.32 (`quantization/modelopt.py`, `compressed_tensors/compressed_tensors.py`), TensorRT-LLM
(`_torch/modules/linear.py`, `models/quant_config_utils.py`, `quantization/modelopt_config.py`), transformers 5.23
with compressed-tensors 0.20, SGLang 0.5.23 (`quantization/modelopt_quant.py`, `compressed_tensors/`). Read in their
sources, and tried for vLLM and transformers; of SGLang the code that reads configurations was run.
The experts of gpt-oss: tried for vLLM and transformers, read for TensorRT-LLM (`_torch/model_config.py`) and SGLang
(`quantization/mxfp4.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
DECODED_AT_ONCE = "quantization_config=CompressedTensorsConfig(dequantize=True)"
"""The argument of from_pretrained with which transformers opens packed zero points."""

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
    ("compressed-tensors", "mxfp6"): _refused("no scheme for 6-bit floats; choose mxfp4 or mxfp8"),
    ("compressed-tensors", "mxfp8"): Support(True, "MXFP8 kernels from sm_100 on, Marlin before"),
    ("compressed-tensors", "fp8"): _FP8,
    ("compressed-tensors", "int8"): _INT8,
    ("compressed-tensors", "pack"): _INT4,
    ("fp8", "fp8"): _BLOCK,
    ("gptq", "gptq"): _INT4,
    ("awq", "awq"): _INT4,
    ("mxfp4", "mxfp4"): Support(True, "experts of gpt-oss in FP4, weight-only (Marlin), sm_80 or newer"),
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
    ("mxfp4", "mxfp4"): Support(True, "experts of gpt-oss in FP4, weight-only before sm_100"),
}

_CT_KINDS = ("nvfp4", "mxfp4", "mxfp6", "mxfp8", "fp8", "int8", "pack")
_TRANSFORMERS: Mapping[tuple[str, str], Support] = {
    **{("compressed-tensors", kind): _DECOMPRESSED for kind in _CT_KINDS},
    ("fp8", "fp8"): Support(
        True, "fine-grained FP8, needs the package accelerate; decoded to bf16 without a GPU of sm_89 or newer"
    ),
    ("gptq", "gptq"): Support(True, "needs the packages optimum (1.24 or newer) and gptqmodel (1.4.3 or newer)"),
    ("awq", "awq"): Support(True, "needs the packages gptqmodel and accelerate"),
    ("mxfp4", "mxfp4"): Support(
        True, "experts of gpt-oss in FP4 by the package kernels on GPUs, else decoded to bf16 while loading"
    ),
}

_SGLANG: Mapping[tuple[str, str], Support] = {
    ("modelopt", "FP8"): Support(True, "FP8 kernels, sm_89 or newer"),
    ("modelopt", "NVFP4"): Support(True, "FP4 kernels, sm_100 or newer"),
    ("modelopt", "NVFP4_AWQ"): Support(True, "FP4 kernels with pre_quant_scale, newest versions only"),
    ("modelopt", "FP8_PER_CHANNEL_PER_TOKEN"): _refused("it takes any FP8 algorithm for one scale a tensor"),
    ("modelopt", "FP8_PB_WO"): _refused("it takes any FP8 algorithm for one scale a tensor"),
    ("compressed-tensors", "nvfp4"): Support(True, "FP4 kernels, sm_100 or newer"),
    ("compressed-tensors", "mxfp4"): Support(True, "experts in FP4, newest versions only"),
    ("compressed-tensors", "mxfp6"): _refused("no scheme for 6-bit floats; choose fp8_row or nvfp4"),
    ("compressed-tensors", "mxfp8"): _refused("no scheme for MXFP8 in this dialect; choose fp8_row"),
    ("compressed-tensors", "fp8"): Support(True, "FP8 kernels, sm_89 or newer"),
    ("compressed-tensors", "int8"): Support(True, "INT8 kernels, sm_80 or newer"),
    ("compressed-tensors", "pack"): Support(True, "weight-only INT4 (Marlin), sm_80 or newer"),
    ("fp8", "fp8"): Support(True, "FP8 block kernels, sm_89 or newer"),
    ("gptq", "gptq"): Support(True, "weight-only INT4 (Marlin), sm_80 or newer"),
    ("awq", "awq"): Support(True, "weight-only INT4 (Marlin), sm_80 or newer"),
    ("mxfp4", "mxfp4"): Support(True, "experts of gpt-oss in FP4 (triton_kernels or FlashInfer), sm_80 or newer"),
}

_TABLES = {"vllm": _VLLM, "trtllm": _TRTLLM, "transformers": _TRANSFORMERS, "sglang": _SGLANG}
_ALIASES = {"hf": "transformers"}
_MODELOPT_ALONE = {
    "vllm": f"of the modelopt dialect it reads {_VLLM_ALGOS}",
    "sglang": "of the modelopt dialect it reads FP8 and NVFP4",
    "transformers": "it knows no quant_method 'modelopt'",
}


@dataclass(frozen=True)
class Stored:
    """How a layer is stored, as far as clients tell layers apart.

    Attributes:
        method: the dialect: "compressed-tensors", "modelopt", "fp8", "gptq", "awq", "mxfp4".
        kind: of compressed-tensors what `kind_of` says, of modelopt the quant_algo, else the method.
        weights, inputs: the dialect's arguments of either; `inputs` is None where they stay as they are.
        experts: whether it is one of stacked experts.
    """

    method: str
    kind: str
    weights: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] | None = None
    experts: bool = False


def support(client: str, stored: Stored) -> Support:
    """Whether a client of ours runs a layer; `UNKNOWN` for clients and layouts that are not in the tables.

    Example:
        >>> support("trtllm", Stored("modelopt", "NVFP4")).how
        'NVFP4 linear, sm_100 or newer'
    """
    client = _ALIASES.get(client, client)
    found = _TABLES.get(client, {}).get((stored.method, stored.kind))
    if found is not None:
        why = _refusal(client, stored)
        return _narrowed(client, stored) or found if why is None else _refused(why)
    if stored.method == "modelopt" and client in _MODELOPT_ALONE:
        return _refused(_MODELOPT_ALONE[client])
    return UNKNOWN


def kind_of(weights: Mapping[str, Any], form: str) -> str:
    """The layout of a compressed-tensors weight, by its arguments and the dialect's word; or "unknown"."""
    what = (weights.get("type"), weights.get("num_bits"), weights.get("strategy"))
    match what:
        case ("float", 4, "tensor_group"):
            return "nvfp4"
        case ("float", 4, "group"):
            return "mxfp4"
        case ("float", 6, "group"):
            return "mxfp6"
        case ("float", 8, "group"):
            return "mxfp8"
        case ("float", 8, "tensor" | "channel" | "block"):
            return "fp8"
        case ("int", int(), "tensor" | "channel" | "group" | "block") if form == "pack-quantized":
            return "pack"
        case ("int", 8, "tensor" | "channel" | "group" | "block"):
            return "int8"
    return "unknown"


_SERVED_BITS = (2, 3, 4, 8)
_TRIED_BITS = (4, 8)


def _refusal(client: str, stored: Stored) -> str | None:
    """What the arguments of a layer rule out although the client runs the layout."""
    match client, stored.method:
        case "sglang", "compressed-tensors":
            return _refused_by_servers(stored) or _refused_by_sglang(stored)
        case "vllm", "compressed-tensors":
            return _refused_by_servers(stored)
        case "trtllm", "compressed-tensors":
            return _refused_by_trtllm(stored)
        case "transformers", "compressed-tensors" if stored.experts:
            whole = stored.weights.get("strategy") != "block" and stored.weights.get("symmetric", True)
            decoded = stored.kind in ("fp8", "pack", "mxfp4", "mxfp6") and whole
            known = "fp8, fp8_row, mxfp4, mxfp6_e2m3 and symmetric integers"
            return None if decoded else f"it decodes experts in {known} alone"
        case "trtllm", "modelopt" if stored.kind == "W4A8_NVFP4_FP8" and stored.weights.get("group_size") == 16:
            return "its W4A8 NVFP4 linear has blocks of 32, not of 16"
        case "vllm", "modelopt" if stored.kind == "FP8_PER_CHANNEL_PER_TOKEN" and stored.experts:
            return "its experts take one FP8 scale a matrix in this dialect"
    return None


def _refused_by_servers(stored: Stored) -> str | None:
    bits, weights, inputs = stored.weights.get("num_bits", 8), stored.weights, stored.inputs
    if inputs is None:
        if stored.kind == "int8":
            return "it reads weight-only INT8 as pack-quantized only"
        if stored.kind == "pack" and bits not in _SERVED_BITS:
            return f"no weight-only kernel for {bits} bits; it has {', '.join(map(str, _SERVED_BITS))}"
        return None
    by_token = inputs.get("strategy") == "token"
    if stored.kind == "pack" and not by_token:
        return f"{bits}-bit weights beside inputs with one scale a tensor; give the inputs one a token"
    if stored.kind == "pack" and inputs.get("type") == "float" and weights.get("strategy") != "group":
        return "4-bit weights with one scale a row beside FP8 inputs; give the weights blocks"
    if stored.kind == "int8" and inputs.get("dynamic") and not by_token:
        return "INT8 inputs with one scale a tensor that is worked out at run time; make it static, or one a token"
    return None


def _refused_by_sglang(stored: Stored) -> str | None:
    """As its own code answered (`bench/clients/sglang_check.py`); it has more schemes for experts."""
    bits = stored.weights.get("num_bits", 8)
    if stored.kind == "pack" and bits not in _TRIED_BITS:
        return f"no weight-only scheme for {bits} bits; it has 4 and 8"
    if stored.experts:
        return None
    if stored.kind == "mxfp4":
        return "MXFP4 in experts only; give linear layers nvfp4"
    if stored.kind == "pack" and stored.inputs is not None:
        return f"{bits}-bit weights beside quantized inputs in experts only; leave the inputs alone"
    if stored.kind == "fp8" and stored.weights.get("strategy") == "block" and stored.inputs is None:
        return "no weight-only FP8 in blocks; quantize the inputs too (fp8_block)"
    return None


def _refused_by_trtllm(stored: Stored) -> str | None:
    inputs = stored.inputs or {}
    pairs = (("channel", "token"), ("block", "group"))
    if stored.kind == "fp8" and (stored.weights.get("strategy"), inputs.get("strategy")) not in pairs:
        return "it reads FP8 with channel weights and token inputs, or block weights and group inputs"
    if stored.kind == "nvfp4" and stored.inputs is None:
        return "it has no NVFP4 weights without quantized inputs in this dialect"
    return None


def _narrowed(client: str, stored: Stored) -> Support | None:
    bits = stored.weights.get("num_bits", 8)
    if client in ("vllm", "sglang") and stored.inputs is None and stored.kind == "pack" and bits not in _TRIED_BITS:
        return Support(None, f"it has a scheme for {bits} bits; which devices have a kernel was not tried")
    if client == "transformers" and stored.kind == "pack" and not stored.weights.get("symmetric", True):
        return Support(True, f"decoded to floats while loading, with {DECODED_AT_ONCE}")
    return None

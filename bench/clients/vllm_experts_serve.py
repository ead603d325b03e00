"""Log-probabilities from vLLM of a model with FP8 experts, on a CPU; started by vllm_experts.py.

VENV/bin/python bench/clients/vllm_experts_serve.py DIRECTORY PROMPTS.json RESULT.json

vLLM has no CPU kernel for quantized experts. Its own loader reads names, codes and scales here; then the experts
are multiplied out and run as unquantized ones, with inputs that are not rounded.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from vllm_cpu_ops import supply
from vllm_serve import served


def emulate() -> None:
    """Give FP8 experts of both dialects an unquantized method once their weights are loaded, and modelopt fp32."""
    from vllm.model_executor.layers.quantization import modelopt
    from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors_moe import (
        compressed_tensors_moe_w8a8_fp8 as compressed,
    )

    modelopt.ModelOptFp8Config.get_supported_act_dtypes = lambda *_: [torch.float32]
    methods = ((compressed, "CompressedTensorsW8A8Fp8MoEMethod"), (modelopt, "ModelOptFp8MoEMethod"))
    for module, name in methods:
        module.select_fp8_moe_backend = lambda **_: ("emulated", None)
        getattr(module, name).process_weights_after_loading = multiply_out


def multiply_out(method: Any, layer: Any) -> None:
    """Codes times scales in fp32 in place of the codes, and an unquantized method in place of this one."""
    from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod

    for name in ("w13", "w2"):
        codes, scale = getattr(layer, f"{name}_weight").data, getattr(layer, f"{name}_weight_scale").data
        weight = torch.nn.Parameter(codes.float() * over_rows(scale.float(), codes.shape[1]), requires_grad=False)
        setattr(layer, f"{name}_weight", weight)
    plain = UnquantizedFusedMoEMethod(layer.moe_config)
    plain.process_weights_after_loading(layer)
    method.__dict__.clear()
    method.__dict__.update(plain.__dict__)
    method.__class__ = UnquantizedFusedMoEMethod


def over_rows(scale: Tensor, rows: int) -> Tensor:
    """Scales of experts [E], of their halves [E, 2] or of rows [E, rows, 1] as [E, 1 or rows, 1]."""
    if scale.dim() == 1:
        return scale[:, None, None]
    return scale if scale.dim() == 3 else scale.repeat_interleave(rows // scale.shape[1], 1)[..., None]


if __name__ == "__main__":
    supply()
    emulate()
    found = served(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()), "float32")
    Path(sys.argv[3]).write_text(json.dumps(found))

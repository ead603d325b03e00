"""nvidia-modelopt on one model of the benchmark of coverage, in an environment of its own."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import modelopt.torch.quantization as mtq
import torch
import transformers
from coverage_case import Case
from coverage_client import BF16, logits
from modelopt.torch.export import export_hf_checkpoint
from torch import Tensor

CLIENTS = {"transformers": nullcontext}
UNITS = {"nvfp4": BF16}
INT4 = {
    "quant_cfg": [
        *mtq.INT4_BLOCKWISE_WEIGHT_ONLY_CFG["quant_cfg"],
        {"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": 4, "block_sizes": {-1: 32}}},
    ],
    "algorithm": "max",
}
CONFIGS: dict[str, Any] = {"fp8": mtq.FP8_DEFAULT_CFG, "nvfp4": mtq.NVFP4_DEFAULT_CFG, "int4": INT4}


def build(case: Case) -> Any:
    """The class that the checkpoint names, as its users load it."""
    config = transformers.AutoConfig.from_pretrained(case.source)
    cls = getattr(transformers, config.architectures[0])
    return cls.from_pretrained(case.source, dtype=torch.float32).eval()


def quantize(model: Any, case: Case, recipe: str, out: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Write `out` with the tool's own exporter; logits of its fake-quantized model where a CPU can run it."""
    inputs = case.inputs()
    with torch.no_grad():
        model = mtq.quantize(model, CONFIGS[recipe], lambda m: m(**inputs))
        found: dict[str, Tensor] = {}
        facts: dict[str, Any] = {}
        try:
            found["transformers"] = logits(model, inputs)
        except Exception as error:  # noqa: BLE001  its NVFP4 runs on a GPU only; the export is judged all the same
            facts["no_reference"] = f"{type(error).__name__}: {str(error)[:120]}"
        export_hf_checkpoint(model, export_dir=str(out))
    return found, facts


def quiet() -> AbstractContextManager[None]:
    return nullcontext()

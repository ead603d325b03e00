"""Asks SGLang's own code, on a machine without a GPU, what it takes layers for: `sglang_open.py DIR [DIR…]`.

Prints a JSON line a directory: the configuration class that SGLang's detection leads to, and for each linear layer,
joined as its models join them, the method and scheme that it would load and run. Nothing is loaded or computed:
kernel libraries that only run on a GPU are stood in for by empty modules, and the GPU is said to be an sm_100.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import json
import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import compressed_tensors  # before there are stand-ins, lest it finds them
import torch
import transformers

KERNELS = {
    "tvm_ffi", "sgl_kernel", "flashinfer", "deep_gemm", "triton_kernels", "aiter", "cutlass", "quack", "xgrammar",
    "llguidance", "outlines", "torchvision", "torchaudio", "torchcodec", "decord", "soundfile", "cuda",
    "flash_attn", "mooncake", "timm", "av", "openai_harmony",
}  # fmt: skip
JOINED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
_INTO = {part: whole for whole, parts in JOINED.items() for part in parts}


class Empty(types.ModuleType):
    """A module that has whatever is asked of it, and does nothing."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__get_pydantic_core_schema__": _any}) if name[:1].isupper() else MagicMock()


@classmethod
def _any(cls: type, *_: object) -> Any:
    from pydantic_core import core_schema

    return core_schema.any_schema()


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Asked last: for kernels that are not installed."""

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        known = name.split(".")[0] in KERNELS
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def read(folder: Path) -> dict[str, Any]:
    """What SGLang makes of a checkpoint."""
    from safetensors import safe_open
    from sglang.srt.configs.model_config import ModelConfig
    from sglang.srt.layers.linear import LinearBase
    from sglang.srt.layers.quantization import get_quantization_config

    said = json.loads((folder / "config.json").read_text())["quantization_config"]
    method = said["quant_method"]
    if method == "modelopt":
        parsed: Any = ModelConfig._parse_modelopt_quant_config(None, said)
        method = parsed["quant_method"]
    method = {"gptq": "gptq_marlin"}.get(method, method)  # what it takes a GPTQ file to on a GPU
    config: Any = get_quantization_config(method).from_config({**said, "packed_modules_mapping": JOINED})
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = {name.rpartition(".")[0] for name in list(file.keys()) if "proj" in name or "lm_head" in name}
    chosen = {}
    for name in sorted({_joined(name) for name in names}):
        layer = LinearBase.__new__(LinearBase)
        torch.nn.Module.__init__(layer)
        layer.input_size = layer.output_size = 256
        found = config.get_quant_method(layer, name)
        scheme = getattr(layer, "scheme", None)
        chosen[name] = type(found).__name__ + ("" if scheme is None else f", {type(scheme).__name__}")
    return {
        "config": type(config).__name__,
        "layers": dict(Counter(chosen.values())),
        "head": chosen.get("lm_head"),
    }


def _joined(name: str) -> str:
    parent, dot, local = name.rpartition(".")
    return f"{parent}{dot}{_INTO.get(local, local)}"


if __name__ == "__main__":
    assert compressed_tensors
    assert transformers.AutoModelForImageTextToText
    sys.meta_path.append(StandIns())
    torch.cuda.get_device_capability = lambda *_: (10, 0)
    for given in sys.argv[1:]:
        with contextlib.redirect_stdout(sys.stderr):
            try:
                row = read(Path(given))
            except Exception as error:  # noqa: BLE001  the row says what stopped it
                row = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(row), flush=True)

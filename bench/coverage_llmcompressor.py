"""llmcompressor on one model of the benchmark of coverage, in an environment of its own."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import transformers
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from coverage_case import Case
from coverage_client import BF16, logits
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import QuantizationModifier
from tokenizers import Tokenizer, models
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

CLIENTS = {"transformers": nullcontext}
UNITS = {"nvfp4": BF16}
IGNORE = ["lm_head", "re:.*router.*", "re:.*gate$"]
SCHEMES: dict[str, dict[str, Any]] = {
    "fp8": {"targets": "Linear", "scheme": "FP8"},
    "nvfp4": {"targets": "Linear", "scheme": "NVFP4"},
    "int4": {
        "config_groups": {
            "group_0": QuantizationScheme(
                targets=["Linear"],
                weights=QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=32, symmetric=True),
            )
        }
    },
}


def build(case: Case) -> Any:
    """The class that the checkpoint names, as its users load it."""
    config = transformers.AutoConfig.from_pretrained(case.source)
    cls = getattr(transformers, config.architectures[0])
    return cls.from_pretrained(case.source, dtype=torch.float32).eval()


def quantize(model: Any, case: Case, recipe: str, out: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Write `out` as the tool does; logits of its fake-quantized model."""
    inputs = case.inputs()
    data = DataLoader([{k: v for k, v in inputs.items() if isinstance(v, Tensor)}], batch_size=None)
    modifier = QuantizationModifier(ignore=IGNORE, **SCHEMES[recipe])
    oneshot(model=model, recipe=[modifier], dataset=data, processor=_tokenizer(), pipeline="basic", log_dir=None)
    found = {"transformers": logits(model, inputs)}
    model.save_pretrained(out, save_compressed=True)
    return found, {}


def _tokenizer() -> PreTrainedTokenizerFast:
    """It asks for one where it is given data, and does not use it on batches of token ids."""
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))


def quiet() -> AbstractContextManager[None]:
    return nullcontext()

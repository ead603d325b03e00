"""The tiny Llama, quantized and written once for each recipe."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel

from mtcore.export import SourceFiles
from mtcore.flow import export_model
from mtcore.quantization import quantize
from mtopt_hf.quantizer import MtcoreConfig, registered

collect_ignore = [] if find_spec("peft") else ["test_peft.py"]


@dataclass(frozen=True)
class Written:
    """A written directory and the logits of the model that it was written from, fp32."""

    folder: Path
    logits: Tensor


@pytest.fixture(scope="session")
def ids() -> Tensor:
    """int64 [2, 24]."""
    return torch.randint(0, 256, (2, 24), generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="session")
def written(
    tiny_llama: LlamaForCausalLM, ids: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Written]:
    """`written(recipe)`; do not change what lies there."""
    made: dict[str, Written] = {}

    def write(recipe: str) -> Written:
        if recipe not in made:
            model = quantize(copy.deepcopy(tiny_llama), recipe, [{"input_ids": ids}])
            config = {**model.config.to_dict(), "architectures": ["LlamaForCausalLM"]}
            folder = tmp_path_factory.mktemp("written") / recipe
            export_model(model, folder, source=SourceFiles(config=config))
            with torch.inference_mode():
                made[recipe] = Written(folder, model(ids).logits)
        return made[recipe]

    return write


@pytest.fixture
def open_as() -> Callable[..., PreTrainedModel]:
    """`open_as(folder, modules)`: as transformers opens it when our quantizer is registered."""

    def open_folder(folder: Path, modules: str = "fake") -> PreTrainedModel:
        with registered():
            return AutoModelForCausalLM.from_pretrained(
                folder, quantization_config=MtcoreConfig(modules), dtype=torch.float32
            )

    return open_folder

"""Comparing logits: every figure, and no figure at all for what cannot be compared."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from mtcore.errors import ModelError
from mtcore.export import SourceFiles
from mtcore.flow import export_model
from mtcore.quantization import quantize
from mtopt_hf.reload import LogitAgreement, compare_logits, open_as_client


def test_figures_are_what_they_say() -> None:
    reference = torch.tensor([[[1.0, 2.0, -3.0], [0.0, 4.0, 2.0]]])
    other = torch.tensor([[[1.0, 2.0, -3.0], [5.0, 4.0, 2.0]]])
    agreement = compare_logits([reference, reference], [reference, other])
    assert agreement == LogitAgreement(4, 0.75, 5 / 12, 5.0, 2.0)
    assert agreement.to_json()["same_argmax"] == 0.75


@pytest.mark.parametrize("other", [[], [torch.zeros(1, 2, 3)], [torch.zeros(1, 2, 4)] * 2])
def test_other_shapes_are_refused(other: list[torch.Tensor]) -> None:
    with pytest.raises(ModelError, match="cannot be compared"):
        compare_logits([torch.zeros(1, 2, 4)], other)


def test_nothing_is_no_agreement() -> None:
    with pytest.raises(ModelError, match="cannot be compared"):
        compare_logits([], [])


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ModelError, match="not finite"):
        compare_logits([torch.zeros(1, 1, 2)], [torch.tensor([[[0.0, torch.nan]]])])


def test_directory_that_is_not_quantized_is_refused(llama_checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="no compressed-tensors checkpoint"):
        open_as_client(llama_checkpoint)


def test_a_checkpoint_with_scales_of_a_cache_opens_with_the_logits_of_the_quantized_model(
    tiny_llama: LlamaForCausalLM, tmp_path: Path
) -> None:
    ids = torch.randint(0, 256, (2, 24), generator=torch.Generator().manual_seed(5))
    model = quantize(copy.deepcopy(tiny_llama), "fp8_kv_fp8", [{"input_ids": ids}])
    config = {**model.config.to_dict(), "architectures": ["LlamaForCausalLM"]}
    export_model(model, tmp_path / "out", source=SourceFiles(config=config))
    client = open_as_client(tmp_path / "out", torch.float32)
    with torch.inference_mode():
        assert torch.equal(client(ids).logits, model(ids).logits)

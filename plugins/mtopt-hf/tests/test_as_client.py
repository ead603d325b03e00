"""The client's arithmetic, held against compressed-tensors itself, and whole models against transformers."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationStatus
from compressed_tensors.quantization.lifecycle.forward import forward_quantize
from torch import Tensor
from transformers import LlamaForCausalLM

from mtcore.export import SourceFiles
from mtcore.flow import export_model
from mtcore.nn import TensorQuantizer
from mtcore.quantization import quantize
from mtopt_hf.as_client import ClientInput, Departure, compute_as_transformers, departure
from mtopt_hf.ct.spelling import SPELLINGS
from mtopt_hf.ct.tensors import divisor
from mtopt_hf.reload import logits_of, open_as_client

CASES = [(spelling, mode) for spelling in SPELLINGS for mode in spelling.activation]
OUTER_AMAX = 3.0
"""Below the largest magnitude of `values`, as data do that come after calibration."""


def values(*shape: int) -> Tensor:
    """Seeded, with tokens of very different sizes, a token of zeros, and a block of numbers close to zero."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(7))
    tokens = x.view(-1, shape[-1])
    tokens *= torch.logspace(-3, 1, len(tokens)).unsqueeze(1)
    tokens[1] = 0.0
    tokens[2, :32] *= 1e-6
    return x


def calibrated(spelling, mode) -> TensorQuantizer:
    quantizer = TensorQuantizer(spelling.format, mode)
    if mode == "static":
        quantizer.set_amax(torch.tensor([[OUTER_AMAX]]), None)
    elif mode == "dynamic_blocks":
        quantizer.set_amax(None, torch.tensor(OUTER_AMAX))
    return quantizer


def as_the_library_does(x: Tensor, spelling, mode, quantizer: TensorQuantizer) -> Tensor:
    layer = SimpleNamespace(quantization_status=QuantizationStatus.FROZEN)
    stored = quantizer.calibrated_qparams()
    if mode == "static":
        layer.input_scale = stored.scale.reshape(1)
    elif mode == "dynamic_blocks":
        layer.input_global_scale = divisor(stored.scale_2)
    return forward_quantize(layer, x.clone(), "input", QuantizationArgs(**spelling.activation[mode]))


@pytest.mark.parametrize("shape", [(2, 9, 256), (17, 256)], ids=["batch of tokens", "two axes"])
@pytest.mark.parametrize(("spelling", "mode"), CASES, ids=[f"{one.format.name} {mode}" for one, mode in CASES])
def test_an_input_is_rounded_as_compressed_tensors_does_bit_for_bit(spelling, mode, shape) -> None:
    x, quantizer = values(*shape), calibrated(spelling, mode)
    assert torch.equal(ClientInput(quantizer)(x), as_the_library_does(x, spelling, mode, quantizer))


def test_values_that_become_another_number_are_counted_and_last_bits_are_not() -> None:
    x = torch.zeros(1, 1, 32)
    x[..., 0], x[..., 1] = 6.5, 1.3  # amax 1.625 · 4: ours steps by 2, the client's by 1 and cuts off at 6
    mxfp4 = next(spelling for spelling in SPELLINGS if spelling.format.name == "mxfp4")
    rounding = ClientInput(TensorQuantizer(mxfp4.format, "dynamic"))
    assert rounding(x)[0, 0, :2].tolist() == [6.0, 1.5]
    assert rounding.quantizer(x)[0, 0, :2].tolist() == [6.0, 1.0]
    assert (rounding.values, rounding.other) == (32, 1)
    nvfp4 = next(spelling for spelling in SPELLINGS if spelling.format.name == "nvfp4")
    usual = ClientInput(calibrated(nvfp4, "dynamic_blocks"))
    x = torch.randn(4, 64, 256, generator=torch.Generator().manual_seed(1)).clamp(-OUTER_AMAX, OUTER_AMAX)
    assert not torch.equal(usual(x), usual.quantizer(x))
    assert usual.other == 0


ASYMMETRIC = {"rules": [{"weight": "int4_b32_asym"}, {"include": "base_exclusions"}], "algorithm": "max"}


@pytest.mark.parametrize(
    ("recipe", "rounds_inputs"),
    [
        ("nvfp4", True),
        ("nvfp4_weight_only", False),
        ("mxfp4", True),
        ("mxfp8", True),
        ("int8_static", True),
        (ASYMMETRIC, False),
    ],
    ids=str,
)
def test_a_model_that_computes_as_transformers_has_its_logits_bit_for_bit(
    tiny_llama: LlamaForCausalLM, tmp_path: Path, recipe: Any, rounds_inputs: bool
) -> None:
    ids = torch.randint(0, 256, (2, 24), generator=torch.Generator().manual_seed(5))
    model = quantize(copy.deepcopy(tiny_llama), recipe, [{"input_ids": ids[:1]}])
    config = {**model.config.to_dict(), "architectures": ["LlamaForCausalLM"]}
    export_model(model, tmp_path / "out", source=SourceFiles(config=config))
    [client] = logits_of(open_as_client(tmp_path / "out", torch.float32), [{"input_ids": ids}])
    compute_as_transformers(model)
    assert departure(model) == Departure(0, 0)
    [ours] = logits_of(model, [{"input_ids": ids}])
    assert torch.equal(ours, client)
    assert (departure(model).values > 0) == rounds_inputs

"""The bytes of a quantized layer: ours, named and packed as the dialect wants, and as its own library packs."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationScheme

from mtcore.export import Artifact
from mtcore.formats.catalog import INT8_ROW
from mtcore.numerics import dequantize, dynamic_qparams, quantize, unpack
from mtcore.plan import ModulePlan, SlotPlan
from mtopt_hf.checkpoint import Layer, LayerValues, pairs_of
from mtopt_hf.ct.scheme import scheme_of
from mtopt_hf.ct.tensors import divisor, layer_tensors

LAYER = "model.layers.1.mlp.up_proj"  # 96 × 64

NAMES = {
    "fp8": {"weight", "weight_scale", "input_scale"},
    "fp8_dynamic": {"weight", "weight_scale"},
    "fp8_weight_only": {"weight", "weight_scale"},
    "int8": {"weight", "weight_scale", "input_scale"},
    "int8_dynamic": {"weight", "weight_scale"},
    "int8_weight_only": {"weight_packed", "weight_scale", "weight_shape"},
    "nvfp4": {"weight_packed", "weight_scale", "weight_global_scale", "input_global_scale"},
    "nvfp4_weight_only": {"weight_packed", "weight_scale", "weight_global_scale"},
}


def tensors_of(artifact: Artifact) -> dict[str, torch.Tensor]:
    module = artifact.modules[LAYER]
    layer = Layer(LAYER, *pairs_of(module.plan))
    return {name: make() for name, make in layer_tensors(layer, layer.values(module)).items()}


@pytest.mark.parametrize("choice", NAMES)
def test_names_shapes_and_dtypes(choice: str, artifacts: Mapping[str, Artifact]) -> None:
    tensors = tensors_of(artifacts[choice])
    assert set(tensors) == NAMES[choice]
    if choice.startswith("nvfp4"):
        assert (tensors["weight_packed"].shape, tensors["weight_packed"].dtype) == ((96, 32), torch.uint8)
        assert (tensors["weight_scale"].shape, tensors["weight_scale"].dtype) == ((96, 4), torch.float8_e4m3fn)
    else:
        assert tensors["weight_scale"].shape == ((1,) if choice == "fp8" else (96, 1))
    for name in tensors.keys() & {"input_scale", "weight_global_scale", "input_global_scale"}:
        assert (tensors[name].shape, tensors[name].dtype) == ((1,), torch.float32)


@pytest.mark.parametrize("choice", NAMES)
def test_the_library_reads_our_values(choice: str, artifacts: Mapping[str, Artifact]) -> None:
    """Bit for bit in fp32. NVFP4: the library rounds to bf16 at the end, as our dequantize does when asked."""
    module = artifacts[choice].modules[LAYER]
    scheme = scheme_of(module.plan.slot("weight"), module.plan.slot("input"))
    group = QuantizationScheme.model_validate(scheme.to_json(["Linear"]))
    compressor = BaseCompressor.get_value_from_registry(scheme.layout)
    read = compressor.decompress(tensors_of(artifacts[choice]), group)["weight"]
    dtype = torch.bfloat16 if choice.startswith("nvfp4") else torch.float32
    assert read.dtype == dtype
    assert torch.equal(read, dequantize(module.weights["weight"], dtype))


def test_nvfp4_codes_and_block_scales_are_ours_bit_for_bit(artifacts: Mapping[str, Artifact]) -> None:
    q = artifacts["nvfp4"].modules[LAYER].weights["weight"]
    tensors = tensors_of(artifacts["nvfp4"])
    assert torch.equal(unpack(tensors["weight_packed"], 4, q.cols), unpack(q.qdata, 4, q.cols))
    assert torch.equal(tensors["weight_scale"].view(torch.uint8), q.qparams.scale.view(torch.uint8))


def test_divisor_gives_back_the_scale_within_two_units_in_the_last_place() -> None:
    generator = torch.Generator().manual_seed(3)
    scale_2 = torch.rand(2000, generator=generator) * 10.0 ** torch.randint(-12, 6, (2000,), generator=generator)
    block = torch.arange(1, 256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    block = block[block.isfinite() & (block > 0)]
    for outer in scale_2:
        ours, theirs = block * outer, block / divisor(outer)
        assert ((ours.view(torch.int32) - theirs.view(torch.int32)).abs() <= 2).all()


def test_packed_int8_pads_rows_whose_length_is_no_multiple_of_four() -> None:
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(5))
    q = quantize(weight, dynamic_qparams(weight, INT8_ROW))
    slot = SlotPlan("weight", INT8_ROW, "static", "by hand")
    planned = ModulePlan("a", "Linear", "nn.Linear", (("weight", (5, 7)),), (slot,), "by hand")
    packed = layer_tensors(Layer("a", *pairs_of(planned)), LayerValues(q, None))["weight_packed"]()
    assert torch.equal(packed, pack_to_int32(q.qdata, 8))

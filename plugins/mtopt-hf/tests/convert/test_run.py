"""Conversions of what peers wrote: independent readers see the same weights, and clients read the result."""

import copy
import importlib.util
import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mtcore.errors import ExportError, UnknownNameError
from mtcore.export import SourceFiles
from mtcore.flow import export_model
from mtcore.lint import lint, open_checkpoint
from mtcore.quantization import quantize
from mtopt_hf.convert.run import convert_checkpoint

_SPEC = importlib.util.spec_from_file_location("convert_readers", Path(__file__).with_name("conftest.py"))
readers = importlib.util.module_from_spec(_SPEC)
sys.modules["convert_readers"] = readers
_SPEC.loader.exec_module(readers)

CT, MO = "compressed-tensors", "modelopt"

LOSSLESS = [
    ("mo-fp8", CT, "vllm"),
    ("mo-fp8-kv", CT, "vllm"),
    ("mo-fp8-channel", CT, "transformers"),
    ("mo-fp8-blocks", CT, "vllm"),
    ("mo-nvfp4", CT, "transformers"),
    ("mo-nvfp4-a16", CT, "vllm"),
    ("mo-nvfp4-moe", CT, "vllm"),
    ("lc-nvfp4", MO, "trtllm"),
    ("lc-nvfp4-a16", MO, "vllm"),
    ("lc-fp8", MO, "vllm"),
    ("lc-fp8-dynamic", MO, "trtllm"),
    ("lc-fp8-kv", MO, "trtllm"),
    ("lc-fp8-blocks", "fp8", "sglang"),
    ("lc-w4a16", MO, "trtllm"),
    ("lc-w4a16", "awq", "vllm"),
    ("lc-w4a16", "gptq", "vllm"),
    ("lc-w4a16-asym", "awq", "vllm"),
    ("lc-w4a16-asym", "gptq", "sglang"),
]


def convert(folder, dialect, out, registry, **options):
    return convert_checkpoint(folder, dialect, out, registry.exporters, **options)


@pytest.mark.parametrize(("name", "dialect", "client"), LOSSLESS)
@pytest.mark.parametrize("shards", [1, 3])
def test_an_independent_reader_sees_the_same_weights_and_the_client_is_satisfied(
    peer, registry, tmp_path, name, dialect, client, shards
):
    folder = peer(name, shards)
    done = convert(folder, dialect, tmp_path / "out", registry)
    assert done.to_json()["identical"] is True
    before, after = readers.tensors_of(folder), readers.tensors_of(tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    for proof in done.proofs:
        old = readers.weight(before, proof.layer)
        new = readers.weight(after, proof.layer, dialect == "awq", config.get("checkpoint_format") == "gptq_v2")
        # one reciprocal in fp32, where a dialect stores it: half a unit in the last place, 2^-24 of the value
        np.testing.assert_allclose(new, old, rtol=2.0**-24, atol=0)
    report = lint(open_checkpoint(tmp_path / "out"), [registry.clients[client]], registry.lint_rules.values())
    assert [finding for finding in report.findings if finding.severity != "note"] == []


@pytest.mark.parametrize(("name", "dialect", "client"), LOSSLESS)
def test_all_other_tensors_stay_as_they_were(peer, registry, tmp_path, name, dialect, client):
    folder = peer(name)
    done = convert(folder, dialect, tmp_path / "out", registry)
    layers = {proof.layer for proof in done.proofs}
    before, after = readers.tensors_of(folder), readers.tensors_of(tmp_path / "out")
    plain = {n for n in before if n.rpartition(".")[0] not in layers and not n.endswith(("k_scale", "v_scale"))}
    assert plain
    for tensor in plain:
        assert before[tensor].tobytes() == after[tensor].tobytes(), tensor


@pytest.mark.parametrize(
    ("name", "there", "back"),
    [("mo-nvfp4", CT, MO), ("lc-w4a16-asym", "awq", CT), ("lc-fp8-blocks", "fp8", CT)],
)
def test_there_and_back_gives_codes_and_scales_again(peer, registry, tmp_path, name, there, back):
    folder = peer(name)
    convert(folder, there, tmp_path / "there", registry)
    convert(tmp_path / "there", back, tmp_path / "back", registry)
    before, after = readers.tensors_of(folder), readers.tensors_of(tmp_path / "back")
    assert before.keys() == after.keys()
    for tensor, old in before.items():
        if tensor.endswith(("weight", "weight_packed", "weight_zero_point")):
            assert old.tobytes() == after[tensor].tobytes(), tensor
        elif tensor.endswith(("weight_scale_2", "input_scale")):
            apart = old.view(np.int32).astype(int) - after[tensor].view(np.int32)
            assert abs(int(apart.reshape(-1)[0])) <= 2, tensor  # a unit there and a unit back
        elif tensor.endswith("weight_scale"):
            np.testing.assert_array_equal(old.astype(np.float32), after[tensor].astype(np.float32))


def test_a_cache_keeps_its_scales_under_the_names_of_the_dialect(peer, registry, tmp_path):
    folder = peer("mo-fp8-kv")
    convert(folder, CT, tmp_path / "out", registry)
    before, after = readers.tensors_of(folder), readers.tensors_of(tmp_path / "out")
    at = "model.layers.0.self_attn"
    assert after[f"{at}.k_scale"][0] == before[f"{at}.k_proj.k_scale"]
    assert not [name for name in after if "k_proj.k_scale" in name]
    scheme = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]["kv_cache_scheme"]
    assert scheme["num_bits"] == 8


def test_a_cache_that_is_only_cast_gets_the_scales_of_one_that_its_clients_take(peer, registry, tmp_path):
    def without_scales(draft):
        for name in [name for name in draft.tensors if name.endswith(("k_scale", "v_scale"))]:
            del draft.tensors[name]

    convert(peer("mo-fp8-kv", spoil=without_scales), CT, tmp_path / "out", registry)
    after = readers.tensors_of(tmp_path / "out")
    scales = {name: value for name, value in after.items() if name.endswith(("k_scale", "v_scale"))}
    layers = json.loads((tmp_path / "out" / "config.json").read_text())["num_hidden_layers"]
    assert len(scales) == 2 * layers
    assert {float(value[0]) for value in scales.values()} == {1.0}
    report = lint(open_checkpoint(tmp_path / "out"), [registry.clients["vllm"]], registry.lint_rules.values())
    assert [finding for finding in report.findings if finding.severity != "note"] == []


@pytest.mark.parametrize(
    ("name", "dialect", "why"),
    [
        ("mo-int4-awq", CT, "its input is scaled (pre_quant_scale)"),
        ("lc-w4a16-asym", MO, "int4_b128_asym"),
        ("lc-int8", "gptq", "holds weights alone"),
        ("lc-nvfp4", "awq", "cannot be spelled in awq"),
        ("mo-fp8-blocks", "fp8", "clients of fp8 quantize inputs"),
        ("lc-fp8-kv", "fp8", "no place for a quantized KV cache"),
        ("lc-fp8", CT, "is in the dialect compressed-tensors already"),
        ("hf-llama", CT, "it is not quantized; quantize it first"),
    ],
)
def test_what_would_be_lost_is_refused_by_name_and_nothing_is_written(peer, registry, tmp_path, name, dialect, why):
    with pytest.raises(ExportError) as caught:
        convert(peer(name), dialect, tmp_path / "out", registry)
    assert why in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_scales_that_fp16_cannot_hold_are_refused_after_the_proof(peer, registry, tmp_path):
    def spoil(draft):
        draft.put_f32("up_proj.weight_scale", 0.1)  # between two fp16 numbers

    with pytest.raises(
        ExportError,
        match=r"up_proj: its scales are no fp16 numbers, which awq holds; `mtopt export ARTIFACT --to awq` rounds",
    ):
        convert(peer("lc-w4a16", spoil=spoil), "awq", tmp_path / "out", registry)
    assert list(tmp_path.glob("*out*")) == []


def test_layers_that_are_refused_for_one_reason_share_a_line(peer, registry, tmp_path):
    with pytest.raises(ExportError) as caught:
        convert(peer("mo-int4-awq"), CT, tmp_path / "out", registry)
    (problem,) = caught.value.problems
    assert "down_proj, model.layers.0.self_attn.o_proj: its input is scaled" in problem


def test_activation_order_is_refused(peer, registry, tmp_path):
    def spoil(draft):
        draft.group["weights"]["actorder"] = "group"
        for name in [name for name in draft.tensors if name.endswith("weight_packed")]:
            cols = draft.tensors[name][1][1] * 8
            order = struct.pack(f"<{cols}i", *(0 if number % 2 else cols // 128 - 1 for number in range(cols)))
            draft.put(name.replace("weight_packed", "weight_g_idx"), "I32", [cols], order)

    with pytest.raises(ExportError, match="order of their activations"):
        convert(peer("lc-w4a16", spoil=spoil), "gptq", tmp_path / "out", registry)


def test_a_damaged_checkpoint_is_refused_by_the_rules_of_linting(peer, registry, tmp_path):
    with pytest.raises(ExportError, match=r"weight_scale_2.*scale-nan"):
        convert(
            peer("mo-nvfp4", spoil=lambda draft: draft.put_f32("up_proj.weight_scale_2", float("nan"))),
            *(CT, tmp_path / "out", registry),
        )


@pytest.mark.parametrize("method", ["mxfp4", "x"])
def test_a_dialect_that_is_not_converted_is_refused(peer, registry, tmp_path, method):
    def spoil(draft):
        draft.config["quantization_config"] = {"quant_method": method}
        draft.put("model.layers.0.mlp.experts.down_proj_blocks", "U8", [2, 32, 1, 16])
        draft.put("model.layers.0.mlp.experts.down_proj_scales", "U8", [2, 32, 1])

    with pytest.raises(ExportError, match=rf"no dialect that can be converted \({method}\)"):
        convert(peer("hf-llama", spoil=spoil), CT, tmp_path / "out", registry)
    assert not (tmp_path / "out").exists()


def test_an_unknown_dialect_is_named(peer, registry, tmp_path):
    with pytest.raises(UnknownNameError, match="gtpq"):
        convert(peer("lc-w4a16"), "gtpq", tmp_path / "out", registry)


def test_what_is_there_already_is_kept(peer, registry, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(ExportError, match="exists already"):
        convert(peer("mo-fp8"), CT, tmp_path / "out", registry)
    assert (tmp_path / "out" / "mine").read_text() == "mine"


def test_companions_come_along_and_the_old_configuration_does_not(peer, registry, tmp_path):
    folder = peer("mo-fp8")
    (folder / "tokenizer.json").write_text("{}")
    convert(folder, CT, tmp_path / "out", registry)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "tokenizer.json" in names
    assert "hf_quant_config.json" not in names


def exported_with_nvfp4_cache(model, folder, dialect):
    recipe = {
        "rules": [{"weight": "nvfp4"}, {"k": "nvfp4", "v": "nvfp4"}, {"include": "base_exclusions"}],
        "algorithm": "max",
    }
    ids = torch.arange(24).view(2, 12) % 64
    quantized = quantize(copy.deepcopy(model), recipe, [{"input_ids": ids, "use_cache": False}])
    source = SourceFiles(config={**model.config.to_dict(), "architectures": [type(model).__name__]})
    export_model(quantized, folder, dialect=dialect, source=source)
    return readers.tensors_of(folder)


@pytest.mark.parametrize(("old", "new"), [(CT, MO), (MO, CT)])
def test_an_nvfp4_cache_has_the_scales_of_an_export_within_a_unit(tiny_llama, registry, tmp_path, old, new):
    before = exported_with_nvfp4_cache(tiny_llama, tmp_path / "old", old)
    expected = exported_with_nvfp4_cache(tiny_llama, tmp_path / "new", new)
    convert(tmp_path / "old", new, tmp_path / "out", registry)
    convert(tmp_path / "out", old, tmp_path / "back", registry)
    for want, folder in ((expected, "out"), (before, "back")):
        found = readers.tensors_of(tmp_path / folder)
        names = {name for name in want if name.endswith(("k_scale", "v_scale", "k_global_scale", "v_global_scale"))}
        assert len(names) == 2 * tiny_llama.config.num_hidden_layers
        assert set(found) == set(want)
        for name in names:
            apart = found[name].reshape(-1).view(np.int32) - want[name].reshape(-1).view(np.int32)
            assert abs(int(apart[0])) <= (1 if folder == "out" else 2), name  # a unit there and a unit back
    says = [json.loads((tmp_path / f / "config.json").read_text())["quantization_config"] for f in ("out", "new")]
    assert says[0]["kv_cache_scheme"] == says[1]["kv_cache_scheme"]


def test_a_cache_in_another_format_is_refused_by_name(peer, registry, tmp_path):
    def other(draft):
        draft.quantization["kv_cache_scheme"] = {"num_bits": 4, "type": "int", "strategy": "tensor"}

    with pytest.raises(ExportError, match="scales of a KV cache in"):
        convert(peer("lc-fp8-kv", spoil=other), MO, tmp_path / "out", registry)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_a_scale_of_a_cache_that_is_none_is_refused(peer, registry, tmp_path, value):
    def other(draft):
        name = next(name for name in draft.tensors if name.endswith("k_scale"))
        dtype, shape, _ = draft.tensors[name]
        draft.tensors[name] = [dtype, shape, struct.pack("<f", value) if dtype == "F32" else bf16(value)]

    with pytest.raises(ExportError, match="k_scale"):
        convert(peer("mo-fp8-kv", spoil=other), CT, tmp_path / "out", registry)
    assert not (tmp_path / "out").exists()


def bf16(value):
    return struct.pack("<f", value)[2:]

"""A plain exporter keeps the contract of exporters; and the contract finds what is wrong with a bad one."""

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from mtcore.export import ExporterSpec, SourceFiles
from mtcore.formats.catalog import FP8, INT8_ROW
from mtcore.testing import ExporterContract
from mtcore.testing.exporters import toy_artifact

KNOWN = {"fp8", "int8_row"}


def check(plan):
    return [
        f"{module.name}: the dialect has no {slot.format.name}; choose one of {sorted(KNOWN)}"
        for module in plan.quantized
        for slot in module.slots
        if slot.format.name not in KNOWN
    ]


def write(artifact, directory):
    tensors = dict(artifact.tensors)
    for name, module in artifact.modules.items():
        tensors[f"{name}.codes"] = module.weights["weight"].qdata
        tensors[f"{name}.scale"] = module.weights["weight"].qparams.scale
    save_file(tensors, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(dict(artifact.source.config), sort_keys=True))
    for name, path in artifact.source.files.items():
        shutil.copyfile(path, directory / name)
    for name, text in artifact.source.texts.items():
        (directory / name).write_text(text)


def read_back(directory):
    tensors = load_file(directory / "model.safetensors")
    for name in [name.removesuffix(".codes") for name in tensors if name.endswith(".codes")]:
        tensors[f"{name}.weight"] = tensors.pop(f"{name}.codes").float() * tensors.pop(f"{name}.scale")
    return tensors


PLAIN = ExporterSpec("plain", "codes and scales, for tests", check, write)


class TestPlainExporter(ExporterContract):
    @pytest.fixture
    def exporter(self):
        return PLAIN

    @pytest.fixture(params=[FP8, INT8_ROW], ids=lambda fmt: fmt.name)
    def weight_format(self, request):
        return request.param

    @pytest.fixture(params=[None, FP8], ids=["weights alone", "inputs too"])
    def input_format(self, request):
        return request.param

    @pytest.fixture
    def read_back(self):
        return read_back


@pytest.fixture(scope="module")
def artifact():
    return toy_artifact(FP8, None, SourceFiles())


def test_a_format_that_is_accepted_though_nobody_knows_it_is_found():
    with pytest.raises(AssertionError, match="check accepts contract_made_up"):
        ExporterContract().test_it_refuses_a_format_that_it_cannot_express_by_name(
            dataclasses.replace(PLAIN, check=lambda plan: [])
        )


def test_a_refusal_that_names_no_module_is_found():
    with pytest.raises(AssertionError, match="no problem names 'gate'"):
        ExporterContract().test_it_refuses_a_format_that_it_cannot_express_by_name(
            dataclasses.replace(PLAIN, check=lambda plan: ["not possible"])
        )


def test_a_scale_stored_as_its_reciprocal_is_found(artifact, tmp_path):
    def inverted(directory):
        tensors = load_file(directory / "model.safetensors")
        codes = {name for name in tensors if name.endswith(".codes")}
        for name in codes:
            stem = name.removesuffix(".codes")
            tensors[f"{stem}.weight"] = tensors[name].float() / tensors[f"{stem}.scale"]
        return tensors

    write(artifact, tmp_path)
    with pytest.raises(
        AssertionError,
        match=r"weight: element \[\d+, \d+\] is .*, expected .* units in the last place apart, allowed are 0",
    ):
        ExporterContract().test_what_is_read_back_is_the_dequantized_artifact(artifact, tmp_path, inverted)


def test_a_missing_tensor_is_found(artifact, tmp_path):
    with pytest.raises(AssertionError, match=r"norm\.weight is missing; read back: "):
        ExporterContract().test_all_other_tensors_are_as_they_were(artifact, tmp_path, lambda directory: {})


def test_an_exporter_that_scribbles_on_the_artifact_is_found(tmp_path):
    def scribbles(artifact, directory):
        artifact.tensors["norm.weight"].zero_()

    with pytest.raises(AssertionError, match=r"norm\.weight after the export: first differing element"):
        ExporterContract().test_the_artifact_is_only_read(
            dataclasses.replace(PLAIN, write=scribbles), toy_artifact(FP8, None, SourceFiles()), tmp_path
        )


def test_an_exporter_that_writes_elsewhere_is_found(artifact, tmp_path, monkeypatch):
    def elsewhere(artifact, directory):
        (directory.parent / "cache.bin").write_bytes(b"")

    with pytest.raises(AssertionError, match=r"files outside the target: \['cache.bin'\]"):
        ExporterContract().test_nothing_is_written_elsewhere(
            dataclasses.replace(PLAIN, write=elsewhere), artifact, tmp_path, monkeypatch
        )


def test_an_exporter_that_writes_the_time_is_found(artifact, tmp_path):
    written, now = tmp_path / "out", iter(range(9))

    def dated(artifact, directory):
        (directory / "time.txt").write_text(str(next(now)))

    written.mkdir()
    dated(artifact, written)
    with pytest.raises(AssertionError):
        ExporterContract().test_two_exports_give_the_same_bytes(
            dataclasses.replace(PLAIN, write=dated), artifact, written, tmp_path
        )


def test_the_toy_artifact_holds_codes_and_untouched_tensors(artifact):
    assert sorted(artifact.modules) == ["down", "gate", "up"]
    assert artifact.modules["gate"].weights["weight"].qdata.dtype == torch.float8_e4m3fn
    assert sorted(artifact.tensors) == ["down.bias", "norm.bias", "norm.weight"]

"""ExporterContract: what every exporter promises."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtcore.calibration import as_forward_loop
from mtcore.calibration.algorithms.max import MAX, MaxOptions
from mtcore.calibration.spec import CalibrationRun
from mtcore.export import Artifact, ExporterSpec, SourceFiles
from mtcore.formats import PER_TENSOR, Float32Element, FloatElement, Scale, TensorFormat
from mtcore.numerics import dequantize
from mtcore.quantization.collect import collect_artifact
from mtcore.quantization.convert import convert
from mtcore.testing.compare import assert_same_bits, assert_within_ulps
from mtcore.testing.toy import ToyModel, toy_batches, toy_config, toy_plan, toy_specs

ReadBack = Callable[[Path], Mapping[str, Tensor]]

MADE_UP = TensorFormat("contract_made_up", FloatElement(1, 4), (Scale(Float32Element(), PER_TENSOR),))
"""A format that no dialect knows."""


class ExporterContract:
    """Override the fixtures `exporter`, `weight_format` and `read_back`; and `input_format`, `config`, `artifact`
    where the exporter wants more.

    `read_back(directory)` reads what was written, as a client of the dialect would, and gives every tensor of the
    state dict by name; quantized weights dequantized, in fp32. It must not use the exporter's own code.
    """

    ulps = 0
    """By how many units in the last place of fp32 a client's weights may differ from ours. More than 0 only where
    the dialect stores a scale in another form, such as its reciprocal; say where the number comes from."""

    @pytest.fixture
    def exporter(self) -> ExporterSpec:
        raise NotImplementedError("override the fixture `exporter`: the record that is tested")

    @pytest.fixture
    def read_back(self) -> ReadBack:
        raise NotImplementedError("override the fixture `read_back`: reads a directory as a client would")

    @pytest.fixture
    def weight_format(self) -> TensorFormat:
        raise NotImplementedError("override the fixture `weight_format`: a format that the dialect can express")

    @pytest.fixture
    def input_format(self) -> TensorFormat | None:
        return None

    @pytest.fixture
    def config(self) -> Mapping[str, object]:
        """The model's configuration that comes with the source."""
        return {"model_type": "toy"}

    @pytest.fixture
    def artifact(
        self,
        weight_format: TensorFormat,
        input_format: TensorFormat | None,
        config: Mapping[str, object],
        tmp_path: Path,
    ) -> Artifact:
        """A toy model, quantized and calibrated, with a file to copy and a text to write."""
        tokenizer = tmp_path / "source" / "tokenizer.json"
        tokenizer.parent.mkdir()
        tokenizer.write_text('{"version": "toy"}')
        files = SourceFiles(config, {tokenizer.name: tokenizer}, {"notes.txt": "rebuilt"})
        return toy_artifact(weight_format, input_format, files)

    @pytest.fixture
    def written(self, exporter: ExporterSpec, artifact: Artifact, tmp_path: Path) -> Path:
        """The directory after one export."""
        return write(exporter, artifact, tmp_path / "out")

    def test_it_accepts_a_plan_in_its_formats(self, exporter: ExporterSpec, artifact: Artifact) -> None:
        problems = list(exporter.check(artifact.plan))
        assert not problems, f"check refuses the fixture's own formats: {problems[0]}"

    def test_it_refuses_a_format_that_it_cannot_express_by_name(self, exporter: ExporterSpec) -> None:
        problems = list(exporter.check(toy_artifact(MADE_UP, None, SourceFiles()).plan))
        assert problems, f"check accepts {MADE_UP}; no dialect knows it"
        for module in ("gate", "up", "down"):
            assert any(module in problem and MADE_UP.name in problem for problem in problems), (
                f"no problem names {module!r} together with {MADE_UP.name!r}: {problems}"
            )

    def test_what_is_read_back_is_the_dequantized_artifact(
        self, artifact: Artifact, written: Path, read_back: ReadBack
    ) -> None:
        found = read_back(written)
        for name, module in artifact.modules.items():
            for parameter, weight in module.weights.items():
                key = f"{name}.{parameter}"
                assert key in found, f"{key} is missing; read back: {sorted(found)}"
                assert_within_ulps(found[key].float(), dequantize(weight, torch.float32), self.ulps, key)

    def test_all_other_tensors_are_as_they_were(
        self, artifact: Artifact, written: Path, read_back: ReadBack
    ) -> None:
        found = read_back(written)
        for name, tensor in artifact.tensors.items():
            assert name in found, f"{name} is missing; read back: {sorted(found)}"
            assert_same_bits(found[name], tensor, name)

    def test_the_sources_files_come_along(self, artifact: Artifact, written: Path) -> None:
        for name, path in artifact.source.files.items():
            assert (written / name).is_file(), f"{name} was not copied; see SourceFiles.write_files"
            assert (written / name).read_bytes() == path.read_bytes(), f"{name} was not copied unchanged"
        for name, text in artifact.source.texts.items():
            assert (written / name).is_file(), f"{name} was not written; see SourceFiles.write_files"
            assert (written / name).read_text() == text, f"{name} was written with another text"

    def test_two_exports_give_the_same_bytes(
        self, exporter: ExporterSpec, artifact: Artifact, written: Path, tmp_path: Path
    ) -> None:
        one, other = digests(written), digests(write(exporter, artifact, tmp_path / "again"))
        differ = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
        assert not differ, f"two exports of one artifact differ in {differ}: no times, no random names, one order"

    def test_the_artifact_is_only_read(self, exporter: ExporterSpec, artifact: Artifact, tmp_path: Path) -> None:
        before = {name: tensor.clone() for name, tensor in stored_tensors(artifact).items()}
        write(exporter, artifact, tmp_path / "out")
        for name, tensor in stored_tensors(artifact).items():
            assert_same_bits(tensor, before[name], f"{name} after the export")

    def test_nothing_is_written_elsewhere(
        self, exporter: ExporterSpec, artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = tmp_path / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        before = set(digests(tmp_path))
        write(exporter, artifact, tmp_path / "out")
        new = {name for name in set(digests(tmp_path)) - before if not name.startswith("out/")}
        assert not new, f"files outside the target: {sorted(new)}"


def toy_artifact(weight: TensorFormat, inputs: TensorFormat | None, source: SourceFiles) -> Artifact:
    """A toy model quantized with `max`, as an artifact."""
    model = ToyModel()
    plan = toy_plan(model, toy_config(weight, inputs))
    root, _ = convert(model, plan, toy_specs())
    MAX.run(CalibrationRun(root, plan, as_forward_loop(toy_batches())), MaxOptions())
    return collect_artifact(root, plan, source)


def write(exporter: ExporterSpec, artifact: Artifact, directory: Path) -> Path:
    """Export into a fresh directory."""
    directory.mkdir()
    exporter.write(artifact, directory)
    return directory


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of every file, by its path in the directory."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def stored_tensors(artifact: Artifact) -> dict[str, Tensor]:
    """Every tensor of an artifact's weights, codes and scales included."""
    coded = {
        f"{name}.{parameter}.{part}": tensor
        for name, module in artifact.modules.items()
        for parameter, weight in module.weights.items()
        for part, tensor in weight.tensors().items()
    }
    return {**coded, **artifact.tensors}

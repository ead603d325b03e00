"""A run goes where its caller says, or else to the targets that its recipe names; each one has its directory."""

from dataclasses import replace

import pytest

from mtcore.errors import CalibrationError, ExportError, UnknownNameError
from mtcore.export import Client, open_artifact
from mtcore.flow import LayerwiseOptions, export_artifact, plan_for_targets, quantize_checkpoint
from mtcore.hookspecs import hookimpl
from mtcore.plugins import Registry
from mtcore.testing.toy_blocks import SOURCE, ToyBlocksPlugin, ToyShape, write_toy_blocks


class Plugin(ToyBlocksPlugin):
    """The toy dialect with a client, and one that refuses every plan."""

    @hookimpl
    def mtcore_exporters(self):
        (toy,) = super().mtcore_exporters()
        never = replace(toy, name="never", check=lambda plan: ("no",))
        return [replace(toy, clients=(Client("server", "it reads it"),)), never]


@pytest.fixture(scope="module")
def registry():
    return Registry.load([Plugin()], discover=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return f"{SOURCE}{write_toy_blocks(tmp_path_factory.mktemp('toy'), ToyShape(layers=2))}"


def recipe(*targets):
    return {"rules": [{"weight": "int8"}], "algorithm": None, **({"targets": list(targets)} if targets else {})}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_several_targets_have_a_directory_each_and_the_summary_counts_their_files(source, registry, tmp_path):
    summary = quantize_checkpoint(source, recipe("server", "artifact"), tmp_path / "out", registry=registry)
    assert names(tmp_path / "out") == ["artifact", "server"]
    assert {file.split("/")[0] for file in summary.exported.files} == {"artifact", "server"}
    assert summary.plan.targets == ("server", "artifact")


def test_one_target_is_the_output_itself(source, registry, tmp_path):
    quantize_checkpoint(source, recipe("artifact"), tmp_path / "out", registry=registry)
    assert open_artifact(tmp_path / "out").plan.targets == ("artifact",)


def test_the_dialect_of_the_caller_goes_before_the_targets(source, registry, tmp_path):
    quantize_checkpoint(source, recipe("never"), tmp_path / "out", dialect="artifact", registry=registry)
    assert open_artifact(tmp_path / "out").plan.targets == ("never",)


def test_an_artifact_keeps_the_targets_for_its_export(source, registry, tmp_path):
    quantize_checkpoint(source, recipe("server", "never"), tmp_path / "a", dialect="artifact", registry=registry)
    written, refused = export_artifact(tmp_path / "a", [], tmp_path / "out", registry=registry)
    assert (written.target.dialect, refused.target.problems) == ("toy", ("no",))
    [only] = export_artifact(tmp_path / "a", ["server"], tmp_path / "other", registry=registry)
    assert only.target.name == "server"


def test_an_export_without_any_target_says_so(source, registry, tmp_path):
    quantize_checkpoint(source, recipe(), tmp_path / "a", dialect="artifact", registry=registry)
    with pytest.raises(ExportError, match="no target is named"):
        export_artifact(tmp_path / "a", [], tmp_path / "out", registry=registry)


def test_a_target_that_refuses_the_plan_stops_the_run_before_anything_is_written(source, registry, tmp_path):
    with pytest.raises(ExportError, match="never: no"):
        quantize_checkpoint(source, recipe("server", "never"), tmp_path / "out", registry=registry)
    assert not names(tmp_path)


def test_an_unknown_target_is_named_with_its_place(source, registry, tmp_path):
    for run in (
        lambda config: quantize_checkpoint(source, config, tmp_path / "out", registry=registry),
        lambda config: plan_for_targets(source, config, registry=registry),
    ):
        with pytest.raises(UnknownNameError, match=r"no target named 'sevrer'.*See targets of the given config"):
            run(recipe("sevrer"))


def test_directories_in_the_way_are_named_together(source, registry, tmp_path):
    for name in ("server", "artifact"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "old").write_text("")
    with pytest.raises(ExportError, match=r"(?s)2 problems.*server: exists already.*artifact: exists already"):
        quantize_checkpoint(source, recipe("server", "artifact"), tmp_path, registry=registry)
    with pytest.raises(ExportError, match="old: is a file"):
        quantize_checkpoint(source, recipe("server", "artifact"), tmp_path / "server" / "old", registry=registry)


def test_a_run_block_by_block_writes_one_checkpoint(source, registry, tmp_path):
    with pytest.raises(CalibrationError, match=r"one for each of server, artifact.*--dialect artifact"):
        quantize_checkpoint(
            source,
            recipe("server", "artifact"),
            tmp_path / "out",
            registry=registry,
            layerwise=LayerwiseOptions(),
        )
    quantize_checkpoint(source, recipe("server"), tmp_path / "out", registry=registry, layerwise=LayerwiseOptions())
    assert names(tmp_path) == ["out"]


def test_a_plan_rehearses_the_targets_of_the_recipe_unless_others_are_named(source, registry):
    _, rehearsals, _ = plan_for_targets(source, recipe("server", "never"), registry=registry)
    assert [bool(one.problems) for one in rehearsals] == [False, True]
    _, rehearsals, _ = plan_for_targets(source, recipe("server"), ["never"], registry=registry)
    assert [one.target.name for one in rehearsals] == ["never"]

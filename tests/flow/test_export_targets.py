"""One artifact is written for every target; what is refused keeps no other from being written."""

import pytest

from mtcore.errors import ExportError, StateError, UnknownNameError
from mtcore.export import Client, ExporterSpec, SourceFiles, open_artifact, write_artifact
from mtcore.flow import export_artifact
from mtcore.formats.catalog import FP8
from mtcore.plugins import Registry
from mtcore.testing.exporters import toy_artifact


def plain(artifact, directory):
    (directory / "plan.txt").write_text(" ".join(sorted(artifact.modules)))


class Plugin:
    """Two dialects; `never` refuses every plan."""

    def mtcore_exporters(self):
        yield ExporterSpec("plain", "for tests", lambda plan: (), plain, clients=(Client("server", "it reads it"),))
        yield ExporterSpec("never", "for tests", lambda plan: ("no",), plain)


@pytest.fixture(scope="module")
def registry():
    from mtcore.hookspecs import hookimpl

    Plugin.mtcore_exporters = hookimpl(Plugin.mtcore_exporters)
    return Registry.load([Plugin()], discover=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifact")
    write_artifact(toy_artifact(FP8, FP8, SourceFiles()), folder)
    return folder


def test_one_target_is_written_at_the_place_itself(source, registry, tmp_path):
    [report] = export_artifact(source, ["plain"], tmp_path / "out", registry=registry)
    assert (tmp_path / "out" / "plan.txt").read_text() == "down gate up"
    assert report.to_json()["files"] == {"plan.txt": 12}


def test_several_targets_have_a_directory_each(source, registry, tmp_path):
    reports = export_artifact(source, ["server", "plain", "server"], tmp_path / "out", registry=registry)
    assert [(report.target.name, report.target.dialect) for report in reports] == [
        ("server", "plain"),
        ("plain", "plain"),
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"server", "plain"}


def test_a_refused_target_keeps_no_other_from_being_written(source, registry, tmp_path):
    refused, written = export_artifact(source, ["never", "plain"], tmp_path / "out", registry=registry)
    assert (refused.exported, refused.target.problems) == (None, ("no",))
    assert written.exported is not None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["plain"]


def test_an_artifact_can_be_written_again_with_other_shards(source, registry, tmp_path):
    export_artifact(source, ["artifact"], tmp_path / "out", max_shard_bytes=40_000, registry=registry)
    assert open_artifact(tmp_path / "out").plan == open_artifact(source).plan
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1


def test_a_shard_size_is_refused_by_a_dialect_without_shards(source, registry, tmp_path):
    with pytest.raises(ExportError, match="plain writes no shards"):
        export_artifact(source, ["plain"], tmp_path / "out", max_shard_bytes=1, registry=registry)


def test_nothing_is_written_if_a_target_is_unknown_or_its_place_is_taken(source, registry, tmp_path):
    with pytest.raises(UnknownNameError, match="no target named 'plian'"):
        export_artifact(source, ["plain", "plian"], tmp_path / "out", registry=registry)
    (tmp_path / "out" / "server").mkdir(parents=True)
    (tmp_path / "out" / "server" / "old").write_text("")
    with pytest.raises(ExportError, match="server: exists already"):
        export_artifact(source, ["plain", "server"], tmp_path / "out", registry=registry)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["server"]


def test_a_directory_without_an_artifact_is_named(registry, tmp_path):
    with pytest.raises(StateError, match="holds no artifact"):
        export_artifact(tmp_path, ["plain"], tmp_path / "out", registry=registry)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_that_is_or_holds_the_artifact_is_refused(source, registry, overwrite):
    before = sorted(source.iterdir())
    for out in (source, source / ".." / source.name, source.parent):
        with pytest.raises(ExportError, match=r"(is|holds) the artifact"):
            export_artifact(source, ["plain"], out, registry=registry, overwrite=overwrite)
    assert sorted(source.iterdir()) == before

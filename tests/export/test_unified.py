"""A directory appears whole or not at all, whatever goes wrong while it is written."""

import errno
from pathlib import Path

import pytest

from mtcore.errors import ExportError, UnknownNameError
from mtcore.export import Artifact, ExporterSpec, SourceFiles, UnifiedExporter
from mtcore.plan import Coverage, Plan
from mtcore.plugins import Catalog

PLAN = Plan("test", (), (), (), (), Coverage(0, 0, 0))
ARTIFACT = Artifact(PLAN, {}, {})


def writes(content: str):
    def write(artifact, directory: Path) -> None:
        (directory / "sub").mkdir()
        (directory / "sub" / "file").write_text(content)

    return ExporterSpec("plain", "for tests", lambda plan: [], write)


def fails(error: BaseException):
    def write(artifact, directory: Path) -> None:
        (directory / "half").write_text("half")
        raise error

    return ExporterSpec("plain", "for tests", lambda plan: [], write)


def exporter(spec) -> UnifiedExporter:
    return UnifiedExporter({"plain": spec})


def test_the_files_and_their_sizes_are_told(tmp_path):
    exported = exporter(writes("12345")).export(ARTIFACT, tmp_path / "out", "plain")
    assert (tmp_path / "out" / "sub" / "file").read_text() == "12345"
    assert exported.files == {"sub/file": 5}
    assert exported.size_bytes == 5
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_an_empty_directory_may_be_the_target(tmp_path):
    (tmp_path / "out").mkdir()
    exporter(writes("new")).export(ARTIFACT, tmp_path / "out", "plain")
    assert (tmp_path / "out" / "sub" / "file").exists()


def test_an_existing_directory_is_refused_unless_it_may_be_replaced(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "config.json").write_text("old")
    with pytest.raises(ExportError, match="exists already"):
        exporter(writes("new")).export(ARTIFACT, out, "plain")
    assert (out / "config.json").exists()
    exporter(writes("new")).export(ARTIFACT, out, "plain", overwrite=True)
    assert not (out / "config.json").exists()
    assert list(tmp_path.iterdir()) == [out]


def test_a_directory_with_files_that_the_artifact_copies_is_not_replaced(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    source = SourceFiles(files={"config.json": tmp_path / "config.json"})
    with pytest.raises(ExportError, match=r"holds the model's config\.json"):
        exporter(writes("new")).export(Artifact(PLAN, {}, {}, source=source), tmp_path, "plain", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ExportError, match="is a file"):
        exporter(writes("new")).check_target("plain", tmp_path / "out", overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("error", "shown", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ExportError, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), ExportError, "Permission denied"),
        (KeyboardInterrupt(), KeyboardInterrupt, ""),
        (ValueError("the exporter's own"), ValueError, "the exporter's own"),
    ],
)
def test_whatever_fails_leaves_nothing_behind_and_the_old_in_place(tmp_path, error, shown, message, overwrite):
    out = tmp_path / "out"
    if overwrite:
        out.mkdir()
        (out / "config.json").write_text("old")
    with pytest.raises(shown, match=message or None):
        exporter(fails(error)).export(ARTIFACT, out, "plain", overwrite=overwrite)
    assert [p.name for p in tmp_path.rglob("*")] == (["out", "config.json"] if overwrite else [])


def test_a_target_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        exporter(writes("new")).export(ARTIFACT, tmp_path / "file" / "out", "plain")


def test_what_the_dialect_cannot_express_is_told_before_anything_is_written(tmp_path):
    spec = ExporterSpec("plain", "for tests", lambda plan: ["a: no", "b: no"], writes("").write)
    with pytest.raises(ExportError, match="2 problems while exporting"):
        exporter(spec).export(ARTIFACT, tmp_path / "out", "plain")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_dialect_names_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'plain'"):
        exporter(writes("")).check(PLAN, "plan")


def test_an_unknown_dialect_tells_of_a_plugin_that_failed(tmp_path):
    catalog = Catalog(
        "exporter", {}, hint="plugin 'hf' (mtopt-hf 0.1.0) failed to load: ModuleNotFoundError: no gguf"
    )
    with pytest.raises(
        UnknownNameError, match=r"no dialect named 'plain'.*plugin 'hf' \(mtopt-hf 0\.1\.0\) failed"
    ):
        UnifiedExporter(catalog).check(PLAN, "plain")

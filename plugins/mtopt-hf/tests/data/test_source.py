"""What a data source is: by its name, or as the user says."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtcore.errors import CalibrationError
from mtopt_hf.data.source import DataSource, files_of, understand_data


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.txt", "text"), ("a", "text"), ("a.JSONL", "jsonl"), ("a.parquet", "parquet"), ("a.npy", "ids")],
)
def test_a_file_is_what_its_suffix_says(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).touch()
    assert understand_data(str(tmp_path / name)) == DataSource(kind, str(tmp_path / name))


def test_what_the_user_says_comes_before_the_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    assert understand_data(str(tmp_path / "a.jsonl"), "ids").kind == "ids"
    assert understand_data("wikitext:en", "dataset") == DataSource("dataset", "wikitext:en")
    assert understand_data("datasets:wikitext") == DataSource("dataset", "wikitext")


@pytest.mark.parametrize(
    ("source", "wanted", "why"),
    [
        ("a.txt", "csv", "no kind of calibration data is named 'csv'"),
        ("nothing.txt", "auto", "no such file"),
        ("datasets:x", "jsonl", "this names a dataset"),
    ],
)
def test_what_cannot_be_is_said(source: str, wanted: str, why: str) -> None:
    with pytest.raises(CalibrationError, match=why):
        understand_data(source, wanted)


@pytest.mark.parametrize(
    ("content", "kind"),
    [("[[1, 2], [3]]", "ids"), (" [1, 2]", "ids"), ('[{"text": "a"}]', "jsonl"), ('{"text": "a"}', "jsonl")],
)
def test_a_json_file_is_never_read_as_text(tmp_path: Path, content: str, kind: str) -> None:
    (tmp_path / "a.json").write_text(content)
    assert understand_data(str(tmp_path / "a.json")).kind == kind


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("ids.pt", "pickle is not read"),
        ("a.csv", "tables are not read"),
        ("a.jsonl.gz", "unpack it"),
        ("a.arrow", "write parquet"),
    ],
)
def test_a_file_that_makes_no_sense_as_text_is_refused_with_what_to_do(
    tmp_path: Path, name: str, what: str
) -> None:
    (tmp_path / name).touch()
    with pytest.raises(CalibrationError, match=what):
        understand_data(str(tmp_path / name))
    assert understand_data(str(tmp_path / name), "text").kind == "text"


def test_a_folder_is_its_files_of_text_and_records_in_order(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.jsonl", "c.md", ".hidden/d.txt", "e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = understand_data(str(tmp_path))
    assert found.kind == "folder"
    assert [(file.path.name, file.kind) for file in files_of(found)] == [
        ("z.jsonl", "jsonl"),
        ("b.txt", "text"),
        ("c.md", "text"),
    ]
    with pytest.raises(CalibrationError, match=r"no file of text or records.*a dataset is named datasets:NAME"):
        files_of(DataSource("folder", str(tmp_path / "nothing")))

"""What a data source is: by its name, or as the user says."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtcore.errors import CalibrationError
from mtopt_hf.data.source import DataSource, understand_data


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

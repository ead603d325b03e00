"""Records of JSON lines, parquet and datasets, in order; damage and missing libraries are told in words.

pyarrow and datasets are optional; stand-ins with their interface take their place here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from mtcore.errors import CalibrationError
from mtopt_hf.data.records import records
from mtopt_hf.data.source import DataSource


def values(source: DataSource, field: str = "text") -> list[object]:
    return [value for _, value in records(source, field)]


def written(folder: Path, content: str) -> DataSource:
    (folder / "a.jsonl").write_text(content, encoding="utf-8")
    return DataSource("jsonl", str(folder / "a.jsonl"))


def test_json_lines_keep_their_order_and_may_be_bare(tmp_path: Path) -> None:
    source = written(tmp_path, '{"text": "one", "n": 1}\n\n"two"\n[3]\n')
    assert values(source) == ["one", "two", [3]]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"text": "a"}\n{"text": \n', "line 2: not JSON"),
        ('{"body": "a", "n": 1}\n', "line 1: it has no field 'text', but 'body', 'n'; name one with --text-field"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: str, why: str) -> None:
    with pytest.raises(CalibrationError, match=why):
        values(written(tmp_path, content))


def test_json_lines_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(CalibrationError, match="not UTF-8"):
        values(DataSource("jsonl", str(tmp_path / "a.jsonl")))


class Column:
    def __init__(self, items: list[object]) -> None:
        self.items = items

    def to_pylist(self) -> list[object]:
        return self.items


class ParquetFile:
    """Two batches of one column."""

    schema_arrow = SimpleNamespace(names=["text", "n"])

    def __init__(self, path: Path) -> None:
        if path.stat().st_size:
            raise OSError("no magic bytes")

    def __enter__(self) -> ParquetFile:
        return self

    def __exit__(self, *_: object) -> None: ...

    def iter_batches(self, columns: list[str]) -> Iterator[SimpleNamespace]:
        assert columns == ["text"]
        for part in (["a", "b"], ["c"]):
            yield SimpleNamespace(column=lambda index, part=part: Column(part))


@pytest.fixture
def pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    library, parquet = ModuleType("pyarrow"), ModuleType("pyarrow.parquet")
    library.ArrowException = RuntimeError  # type: ignore[attr-defined]
    parquet.ParquetFile = ParquetFile  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyarrow", library)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", parquet)


@pytest.mark.usefixtures("pyarrow")
def test_parquet_gives_one_column_row_by_row(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").touch()
    found = list(records(DataSource("parquet", str(tmp_path / "a.parquet")), "text"))
    assert [value for _, value in found] == ["a", "b", "c"]
    assert found[2][0].endswith("a.parquet, row 2")
    with pytest.raises(CalibrationError, match="it has no field 'body', but 'text', 'n'"):
        values(DataSource("parquet", str(tmp_path / "a.parquet")), "body")


@pytest.mark.usefixtures("pyarrow")
def test_a_damaged_parquet_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("x")
    with pytest.raises(CalibrationError, match="not readable as parquet: no magic bytes"):
        values(DataSource("parquet", str(tmp_path / "a.parquet")))


@pytest.mark.parametrize(
    ("kind", "library", "extra"), [("parquet", "pyarrow", "parquet"), ("dataset", "datasets", "datasets")]
)
def test_a_missing_library_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, kind: str, library: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(CalibrationError, match=rf"needs the library {library}.*pip install 'mtopt-hf\[{extra}\]'"):
        values(DataSource(kind, "x"))  # type: ignore[arg-type]


def use_datasets(monkeypatch: pytest.MonkeyPatch, load: object) -> None:
    library = ModuleType("datasets")
    library.load_dataset = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)


def test_a_dataset_is_streamed_with_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(*names: object, **options: object) -> list[dict[str, str]]:
        asked.append((names, options))
        return [{"text": "a"}, {"text": "b"}]

    use_datasets(monkeypatch, load)
    assert values(DataSource("dataset", "org/name:en")) == ["a", "b"]
    assert asked == [(("org/name", "en"), {"split": "train", "streaming": True})]
    with pytest.raises(CalibrationError, match="record 0: it has no field 'body', but 'text'"):
        values(DataSource("dataset", "org/name"), "body")


def test_a_dataset_that_cannot_be_reached_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise ConnectionError("cannot reach the hub\nand much more")

    use_datasets(monkeypatch, load)
    with pytest.raises(CalibrationError, match=r"dataset x: it cannot be read .*: cannot reach the hub$"):
        values(DataSource("dataset", "x"))

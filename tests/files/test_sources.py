"""A hash of source files changes with what they hold and with their order."""

import pytest

from mtcore.files import hash_sources


@pytest.fixture
def files(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    return [tmp_path / "a", tmp_path / "b"]


def test_the_same_sources_have_the_same_hash_wherever_they_lie(files):
    before = hash_sources(files)
    moved = files[0].rename(files[0].with_name("c"))
    assert hash_sources([moved, files[1]]) == before


def test_a_changed_file_and_another_order_have_another_hash(files):
    before = hash_sources(files)
    assert hash_sources(reversed(files)) != before
    files[1].write_text("b ")
    assert hash_sources(files) != before


def test_another_version_of_torch_has_another_hash(files, monkeypatch):
    before = hash_sources(files)
    monkeypatch.setattr("torch.__version__", "0")
    assert hash_sources(files) != before


def test_a_source_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        hash_sources([tmp_path / "gone.py"])

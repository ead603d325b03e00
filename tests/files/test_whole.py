"""A file is whole or absent, and an old one stays until the new one is whole."""

import pytest

from mtcore.files import whole, whole_file, write_json


def test_a_file_appears_when_it_is_done(tmp_path):
    with whole_file(tmp_path / "f") as file:
        file.write(b"new")
        assert not (tmp_path / "f").exists()
    assert (tmp_path / "f").read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [tmp_path / "f"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    write_json(tmp_path / "f", {"a": 1})

    def fail():
        with whole_file(tmp_path / "f") as file:
            file.write(b"half")
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()
    assert (tmp_path / "f").read_text() == '{\n "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [tmp_path / "f"]


@pytest.mark.parametrize("known", [True, False])
def test_a_file_whose_flush_began_early_is_as_it_was_written(tmp_path, monkeypatch, known):
    if not known:
        monkeypatch.setattr(whole, "_sync_file_range", lambda: None)
    with whole_file(tmp_path / "f") as file:
        file.write(b"a" * 10_000)
        whole.begin_flush(file, 0, 10_000)
        file.write(b"b")
    assert (tmp_path / "f").read_bytes() == b"a" * 10_000 + b"b"


def test_a_file_that_cannot_be_made_is_named_and_not_the_partial_one(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none" / "x", tmp_path / "file" / "x"):
        with pytest.raises(OSError, match="directory") as error:
            write_json(path, {})
        assert error.value.filename == str(path)

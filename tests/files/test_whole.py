"""A file is whole or absent, and an old one stays until the new one is whole."""

import pytest

from mtcore.files import whole_file, write_json


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

"""JSON objects from files that anybody may have written."""

import os

import pytest

from mtcore.lint import read_object


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "not readable as JSON"),
        (b"[1]", "an object was expected, not list"),
        (b"\xff\xfe\x00", "not readable as JSON"),
        (b"[" * 200_000, "not readable as JSON"),
        (b"9" * 10_000, "not readable as JSON"),
        (b"", "not readable as JSON"),
    ],
)
def test_a_file_that_holds_no_object_is_refused_in_one_line(tmp_path, content, why):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=why) as caught:
        read_object(tmp_path / "x.json")
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "nothing"):
        with pytest.raises(ValueError, match=r"no regular file|no such file"):
            read_object(tmp_path / name)


def test_a_file_too_large_to_be_true_is_not_read(tmp_path):
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(10**12)  # without data; reading it would end the process
    with pytest.raises(ValueError, match="too many"):
        read_object(tmp_path / "x.json")

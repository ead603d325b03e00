import errno
import fcntl
import os
from pathlib import Path

import numpy as np
import pytest

from mtcore.files import pieces
from mtcore.files.pieces import in_pieces

WAYS = pytest.mark.parametrize("cached", [True, False])


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 2 * 4096)


def numbers(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, count, dtype=np.uint8)


def write(path: Path, parts: list[np.ndarray | int], cached: bool) -> bytes:
    """Bytes, or the sizes of holes."""
    with path.open("wb") as file:
        with in_pieces(file, cached=cached) as writer:
            for part in parts:
                writer.skip(part) if isinstance(part, int) else writer.write(part)
        file.truncate(sum(part if isinstance(part, int) else len(part) for part in parts))
    return path.read_bytes()


@WAYS
@pytest.mark.parametrize("size", [0, 1, 4096, 8192, 8193, 100_000])
def test_the_file_has_the_bytes_that_were_written(tmp_path, size, cached):
    data = numbers(size)
    assert write(tmp_path / "f", [data[:5], data[5:7000], data[7000:]], cached) == data.tobytes()


@WAYS
@pytest.mark.parametrize("hole", [0, 1, 4090, 4096, 5000, 50_000])
def test_a_hole_reads_as_zeros_and_what_follows_is_in_its_place(tmp_path, hole, cached):
    data = numbers(30_000)
    found = write(tmp_path / "f", [data[:10_000], hole, data[10_000:], hole], cached)
    assert found == data[:10_000].tobytes() + bytes(hole) + data[10_000:].tobytes() + bytes(hole)


def test_bytes_may_change_once_they_are_given(tmp_path):
    data = numbers(5000)
    with (tmp_path / "f").open("wb") as file, in_pieces(file, cached=False) as writer:
        for value in range(20):
            data[:] = value
            writer.write(data)
    assert (tmp_path / "f").read_bytes() == b"".join(bytes([value]) * 5000 for value in range(20))


def test_where_the_file_system_knows_no_way_past_its_cache_the_bytes_are_the_same(tmp_path, monkeypatch):
    def refuse(file, command, *flags):
        if command == fcntl.F_SETFL:
            raise OSError(errno.EINVAL, "Invalid argument")
        return 0

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    data = numbers(100_000)
    assert write(tmp_path / "f", [data], cached=False) == data.tobytes()


def test_where_the_disk_refuses_only_when_it_is_written_to_the_bytes_are_the_same(tmp_path, monkeypatch):
    put, refused = os.pwrite, []

    def refuse_past_the_cache(descriptor, data, start):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            refused.append(start)
            raise OSError(errno.EINVAL, "Invalid argument")
        return put(descriptor, data, start)

    monkeypatch.setattr(os, "pwrite", refuse_past_the_cache)
    data = numbers(100_000)
    assert write(tmp_path / "f", [data], cached=False) == data.tobytes()
    assert len(refused) <= 1  # none where the file system has nothing but its cache


def test_a_piece_that_was_written_in_part_is_written_to_its_end(tmp_path, monkeypatch):
    put = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, start: put(descriptor, data[:4096], start))
    data = numbers(50_000)
    assert write(tmp_path / "f", [data], cached=False) == data.tobytes()


@WAYS
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EINVAL])
def test_a_full_disk_is_told_by_whoever_writes_next(tmp_path, monkeypatch, code, cached):
    def full(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match=os.strerror(code)):
        write(tmp_path / "f", [numbers(50_000)], cached)

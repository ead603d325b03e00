"""A disk that fills up at any moment: `mtopt quantize` says where, leaves nothing half-written, and goes on."""

import builtins
import errno
import io
import os
import random
import re

import pytest

from mtcore import plugins
from mtcore.cli.main import run
from mtcore.plugins import Registry
from mtcore.testing.toy_blocks import SOURCE, ToyBlocksPlugin, ToyShape, write_toy_blocks

MOMENTS = 12


class Disk:
    """Takes `left` more bytes under a folder; a write beyond them puts down what fits, and fails."""

    def __init__(self, folder, monkeypatch) -> None:
        self.folder, self.left, self.taken = str(folder), None, 0
        self._open = io.open
        monkeypatch.setattr(io, "open", self.open)
        monkeypatch.setattr(builtins, "open", self.open)
        self._put = os.pwrite
        monkeypatch.setattr(os, "pwrite", self.put)

    def open(self, file, mode="r", *args, **kwargs):
        opened = self._open(file, mode, *args, **kwargs)
        if str(file).startswith(self.folder) and set(mode) & set("wxa+"):
            write = opened.write
            opened = _Counted(opened, lambda data: self.write(write, data))
        return opened

    def put(self, descriptor, data, start):
        if not os.readlink(f"/proc/self/fd/{descriptor}").startswith(self.folder):
            return self._put(descriptor, data, start)
        return self.write(lambda part: self._put(descriptor, part, start), data)

    def write(self, write, data):
        size = len(memoryview(data).cast("B")) if not isinstance(data, str) else len(data.encode())
        if self.left is not None and size > self.left:
            write(data[: self.left])
            self.left = 0
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.left is not None:
            self.left -= size
        self.taken += size
        return write(data)


class _Counted:
    """A file whose writes go through a function."""

    def __init__(self, file, write) -> None:
        self._file, self.write = file, write

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *error):
        return self._file.__exit__(*error)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy_blocks(tmp_path_factory.mktemp("toy"), ToyShape())


@pytest.fixture
def quantize(toy, tmp_path, capsys, monkeypatch):
    """`quantize("out", "--layerwise")` runs the command; gives the exit code and the last line on stderr."""
    registry = Registry.load([ToyBlocksPlugin()], discover=False)
    monkeypatch.setattr(plugins, "default_registry", lambda: registry)

    def call(out, *extra):
        line = ["quantize", f"{SOURCE}{toy}", "--recipe", "fp8", "--calib", "some", "-o", str(tmp_path / out)]
        sizes = ["--samples", "8", "--length", "16", "--batch-size", "2", "--dialect", "toy"]
        code = run([*line, *sizes, *map(str, extra)])
        return code, capsys.readouterr().err.splitlines()[-1]

    return call


@pytest.fixture
def disk(tmp_path, monkeypatch):
    return Disk(tmp_path, monkeypatch)


def content(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def moments(size):
    """The first byte, the last, and random ones between."""
    return [0, *sorted(random.Random(0).sample(range(1, size - 1), MOMENTS - 2)), size - 1]


def test_a_run_block_by_block_goes_on_from_what_fitted_and_ends_with_the_same_bytes(quantize, disk, tmp_path):
    assert quantize("unbroken", "--layerwise")[0] == 0
    size, expected = disk.taken, content(tmp_path / "unbroken")
    for moment in moments(size):
        disk.left = moment
        code, line = quantize(f"out-{moment}", "--layerwise")
        assert code == 1, line
        assert "the disk is full" in line
        assert f"out-{moment}" in line, "which disk"
        assert not (tmp_path / f"out-{moment}").exists()
        assert not list(tmp_path.rglob("*.partial"))
        assert moment or not (tmp_path / "out-0.run").exists(), "nothing is done, and nothing is kept"
        disk.left = None
        code, line = quantize(f"out-{moment}", "--layerwise")
        assert code == 0, line
        assert content(tmp_path / f"out-{moment}") == expected
        assert not (tmp_path / f"out-{moment}.run").exists()


def test_what_fitted_block_by_block_is_not_done_again(quantize, disk):
    assert quantize("unbroken", "--layerwise")[0] == 0
    size = disk.taken
    disk.left = size // 2
    code, line = quantize("out", "--layerwise")
    assert code == 1
    done = int(
        re.search(r"the disk is full; (\d) of 4 blocks are done and kept, and the same call goes on", line)[1]
    )
    assert done
    disk.left, disk.taken = None, 0
    assert quantize("out", "--layerwise")[0] == 0
    assert disk.taken < 0.8 * size


def test_kept_statistics_are_whole_or_absent_and_the_next_run_ends_with_the_same_bytes(quantize, disk, tmp_path):
    assert quantize("unbroken", "--statistics", tmp_path / "kept")[0] == 0
    size, expected = disk.taken, content(tmp_path / "unbroken")
    for moment in moments(size):
        disk.left = moment
        where = f"{moment}"
        code, line = quantize(f"out-{where}", "--statistics", tmp_path / f"kept-{where}")
        assert code == 1, line
        assert "the disk is full" in line
        assert f"out-{where}" in line or f"kept-{where}" in line, "which disk"
        assert not (tmp_path / f"out-{where}").exists()
        assert not list(tmp_path.rglob("*.partial"))
        disk.left = None
        code, line = quantize(f"out-{where}", "--statistics", tmp_path / f"kept-{where}")
        assert code == 0, line
        assert content(tmp_path / f"out-{where}") == expected
        assert content(tmp_path / f"kept-{where}") == content(tmp_path / "kept")


def test_statistics_that_lay_there_before_survive_a_full_disk(quantize, disk, tmp_path):
    assert quantize("first", "--statistics", tmp_path / "kept")[0] == 0
    before = content(tmp_path / "kept")
    disk.left = 100
    code, line = quantize("second", "--statistics", tmp_path / "kept", "--set", "algorithm=local_hessian")
    assert code == 1
    assert "the disk is full" in line
    assert content(tmp_path / "kept") == before


def test_an_export_leaves_nothing_behind(quantize, disk, tmp_path):
    assert quantize("unbroken")[0] == 0
    size, expected = disk.taken, content(tmp_path / "unbroken")
    for moment in moments(size):
        disk.left = moment
        code, line = quantize("out")
        assert code == 1, line
        assert "the disk is full; nothing was written" in line
        assert [path.name for path in tmp_path.iterdir()] == ["unbroken"]
    disk.left = None
    assert quantize("out")[0] == 0
    assert content(tmp_path / "out") == expected

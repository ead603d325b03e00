"""A killed export goes on where it was, with the bytes of an unbroken one; other work is thrown away."""

import json
import os
import subprocess
import sys

import pytest

from mtcore.errors import ExportError
from mtcore.export import SourceFiles, write_artifact
from mtcore.export.resume import resumable, stored_key
from mtcore.flow import export_artifact
from mtcore.formats.catalog import NVFP4
from mtcore.plugins import Registry
from mtcore.testing.exporters import digests, toy_artifact

SHARD = 12_000

KILLED = """
import os, signal, sys
from pathlib import Path
import mtcore.export.shards as shards
from mtcore.flow import export_artifact
from mtcore.plugins import Registry

left, save = [int(sys.argv[3])], shards.save_tensors

def save_or_die(*args, **options):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    save(*args, **options)

shards.save_tensors = save_or_die
export_artifact(sys.argv[1], ["artifact"], Path(sys.argv[2]), max_shard_bytes=int(sys.argv[4]),
                registry=Registry.load(discover=False))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifact")
    write_artifact(toy_artifact(NVFP4, NVFP4, SourceFiles({"model_type": "toy"})), folder)
    return folder


def export(source, out, **options):
    export_artifact(source, ["artifact"], out, registry=Registry.load(discover=False), **options)


def kill_after(shards, source, out):
    line = [sys.executable, "-c", KILLED, str(source), str(out), str(shards), str(SHARD)]
    assert subprocess.run(line, check=False, env={**os.environ}).returncode == -9


def test_a_killed_export_keeps_its_whole_files_and_ends_with_the_same_bytes(source, tmp_path):
    export(source, tmp_path / "unbroken", max_shard_bytes=SHARD)
    out = tmp_path / "out"
    kill_after(2, source, out)
    assert not out.exists()
    work = tmp_path / ".out.export" / "checkpoint"
    first = {path.name: path.stat().st_ino for path in work.iterdir()}
    assert len(first) == 2
    kill_after(1, source, out)
    assert len(list(work.iterdir())) == 3
    export(source, out, max_shard_bytes=SHARD)
    assert {name: (out / name).stat().st_ino for name in first} == first
    assert digests(out) == digests(tmp_path / "unbroken")
    assert not work.parent.exists()


def test_other_choices_begin_anew(source, tmp_path):
    kill_after(2, source, tmp_path / "out")
    export(source, tmp_path / "out")
    export(source, tmp_path / "unbroken")
    assert digests(tmp_path / "out") == digests(tmp_path / "unbroken")


def test_the_key_changes_with_the_artifact_and_with_every_choice(source, tmp_path):
    keys = [stored_key(source, dialect="a"), stored_key(source, dialect="b")]
    write_artifact(toy_artifact(NVFP4, None, SourceFiles()), tmp_path)
    keys.append(stored_key(tmp_path, dialect="a"))
    assert len({json.dumps(key) for key in keys}) == 3
    assert stored_key(source, dialect="a") == keys[0]


def test_a_key_that_was_cut_short_counts_as_none(tmp_path):
    place = tmp_path / ".out.export"
    (place / "checkpoint").mkdir(parents=True)
    (place / "checkpoint" / "old").write_text("")
    (place / "key.json").write_text('{"dia')
    with resumable(tmp_path / "out", {"dialect": "a"}) as work:
        assert not work.exists()


def test_an_error_leaves_nothing_behind_and_an_interruption_leaves_the_work(tmp_path):
    def stop(error):
        with resumable(tmp_path / "out", {"dialect": "a"}) as work:
            work.mkdir(exist_ok=True)
            raise error

    work = tmp_path / ".out.export" / "checkpoint"
    for error, stays in ((ValueError, False), (KeyboardInterrupt, True)):
        with pytest.raises(error):
            stop(error)
        assert work.exists() == stays


def test_two_exports_to_one_place_are_refused(tmp_path):
    with (
        resumable(tmp_path / "out", {}),
        pytest.raises(ExportError, match="another export works there"),
        resumable(tmp_path / "out", {}),
    ):
        pass

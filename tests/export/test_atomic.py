"""What stood at the place of an output is replaced only if it may be, and is never lost on the way."""

import os
from pathlib import Path

import pytest

from mtcore.errors import ExportError
from mtcore.export import target_problems, whole_directory


@pytest.fixture
def out(tmp_path):
    """A checkpoint that stands where another one is to be written."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("old")
    return tmp_path / "out"


def write(out, **options):
    with whole_directory(out, overwrite=True, **options) as folder:
        (folder / "config.json").write_text("new")


@pytest.fixture
def renames(monkeypatch):
    """`renames(fails)`: a rename of which `fails(path, goal)` is true is denied."""
    rename = Path.rename

    def deny(fails):
        def denied(self, goal):
            if fails(self, goal):
                raise PermissionError(13, "Permission denied")
            return rename(self, goal)

        monkeypatch.setattr(Path, "rename", denied)

    return deny


@pytest.mark.parametrize("file", ["config.json", "artifact.json", "mtcore_state.json", "w.safetensors", "w.gguf"])
def test_what_looks_like_a_checkpoint_is_replaced(tmp_path, file):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / file).write_text("")
    assert target_problems(tmp_path / "out", overwrite=True) == []


@pytest.mark.parametrize("files", [["notes.txt"], ["a", "b", "c", "d", "e"], ["config.json", ".git"]])
def test_what_does_not_look_like_a_checkpoint_is_never_replaced(tmp_path, files):
    (tmp_path / "out").mkdir()
    for file in files:
        (tmp_path / "out" / file).write_text("mine")
    with pytest.raises(ExportError, match=r"does not look like a checkpoint.*delete it by hand") as error:
        write(tmp_path / "out")
    assert files[0] in str(error.value)
    assert ("and 2 more" in str(error.value)) == (len(files) == 5)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(files)


def test_the_directory_that_one_works_in_is_not_replaced(out, monkeypatch):
    (out / "inner").mkdir()
    for here in (out, out / "inner"):
        monkeypatch.chdir(here)
        [problem] = target_problems(Path(os.path.relpath(out)), overwrite=True)
        assert "holds the directory that you work in" in problem


def test_the_place_of_a_mount_is_not_replaced(out, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: path == out)
    [problem] = target_problems(out, overwrite=True)
    assert "name a directory in it" in problem


def test_a_path_with_dots_is_the_directory_that_it_leads_to(out):
    write(out / ".." / "out")
    assert (out / "config.json").read_text() == "new"
    assert list(out.parent.iterdir()) == [out]


def test_a_link_stays_and_what_it_leads_to_is_replaced(out):
    link = out.parent / "link"
    link.symlink_to(out)
    write(link)
    assert link.is_symlink()
    assert (out / "config.json").read_text() == "new"


def test_a_swap_that_fails_leaves_the_old_in_place_and_says_so(out, renames):
    renames(lambda path, goal: path.name != "old" and goal == out)
    with pytest.raises(ExportError, match=r"Permission denied.*what stood there is as it was"):
        write(out)
    assert (out / "config.json").read_text() == "old"
    assert list(out.parent.iterdir()) == [out]


def test_an_old_directory_that_cannot_be_moved_back_is_kept_and_its_place_is_told(out, renames):
    renames(lambda path, goal: goal == out)
    with pytest.raises(ExportError, match=r"could not be moved back.*move it back by hand") as error:
        write(out)
    [kept] = out.parent.glob("*/old")
    assert str(kept) in str(error.value)
    assert (kept / "config.json").read_text() == "old"


def test_an_old_directory_that_cannot_be_moved_aside_stays(out, renames):
    renames(lambda path, goal: path == out)
    with pytest.raises(ExportError, match="as it was"):
        write(out)
    assert list(out.parent.rglob("*")) == [out, out / "config.json"]


@pytest.mark.parametrize("moved", [False, True])
def test_an_interruption_of_the_swap_loses_neither(out, monkeypatch, moved):
    rename = Path.rename

    def interrupted(self, goal):
        if self.name != "old" and goal == out:
            if moved:
                rename(self, goal)
            raise KeyboardInterrupt
        return rename(self, goal)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(out)
    assert (out / "config.json").read_text() == ("new" if moved else "old")
    assert list(out.parent.iterdir()) == [out]

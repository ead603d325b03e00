"""A place is told apart from what a run reads, and one that cannot be written is known before."""

import os

import pytest

from mtcore.files import file_problems, local_path, parent_problems, taken_inputs


@pytest.fixture
def model(tmp_path):
    (tmp_path / "par" / "src").mkdir(parents=True)
    (tmp_path / "par" / "src" / "config.json").write_text("{}")
    return tmp_path / "par" / "src"


def spelt_with_dots(model):
    return model / ".." / "src"


def spelt_as_a_link(model):
    (model.parents[1] / "link").symlink_to(model)
    return model.parents[1] / "link"


@pytest.mark.parametrize("spelt", [lambda model: model, spelt_with_dots, spelt_as_a_link])
def test_a_place_that_is_an_input_is_told_however_it_is_spelt(model, spelt):
    [problem] = taken_inputs(spelt(model), [("the model", model)])
    assert "is the model, which this run would lose; name another place" in problem


def test_a_place_that_holds_an_input_is_told(model):
    [problem] = taken_inputs(model.parent, [("the model", model), ("the recipe", model.parents[1] / "r.yaml")])
    assert f"holds the model ({model})" in problem


def test_an_input_that_is_to_be_made_in_the_place_is_told_too(tmp_path):
    [problem] = taken_inputs(tmp_path / "out", [("the directory of --statistics", tmp_path / "out" / "kept")])
    assert "holds the directory of --statistics" in problem


def test_a_place_inside_an_input_or_beside_it_is_no_problem(model):
    for place in (model / "quantized", model.parent / "src2", model.parent / "other"):
        assert taken_inputs(place, [("the model", model)]) == []


def test_a_source_names_a_path_behind_its_prefixes(model, monkeypatch):
    monkeypatch.chdir(model.parent)
    assert local_path("src") == local_path("with-code:src") == local_path("a:b:src")
    assert local_path(f"toy:{model}") == model
    for nowhere in ("org/name", "datasets:name", "", "x:", "a" * 5000):
        assert local_path(nowhere) is None


def test_nothing_is_made_below_a_file(tmp_path):
    (tmp_path / "c.txt").write_text("")
    [problem] = parent_problems(tmp_path / "c.txt" / "a" / "out")
    assert f"{tmp_path / 'c.txt'} is a file and no directory" in problem
    assert parent_problems(tmp_path / "a" / "b" / "out") == []


def test_nothing_is_made_in_a_directory_that_is_read_only(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    [problem] = parent_problems(tmp_path / "a" / "out")
    assert f"the directory {tmp_path} is read-only" in problem


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none/x", "there is no directory"),
        ("file/x", "is a file and no directory"),
        ("folder", "it is a directory"),
    ],
)
def test_a_file_needs_a_directory_that_exists(tmp_path, name, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    [problem] = file_problems(tmp_path / name)
    assert message in problem
    assert file_problems(tmp_path / "folder" / "x") == file_problems(tmp_path / "file") == []

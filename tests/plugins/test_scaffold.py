"""A new plugin: what is written, what is left out, and what is refused."""

import ast
import itertools
import tomllib
from pathlib import Path

import pytest

from mtcore.errors import PluginError
from mtcore.hookspecs import HOOK_API
from mtcore.plugins.checking import hook_names
from mtcore.plugins.scaffold import PARTS, TEMPLATE, new_plugin

ROOT = Path(__file__).parents[2]


def hooks_of(plugin):
    source = (plugin.directory / "src" / plugin.package / "hooks.py").read_text()
    return source, [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]


def test_the_parts_have_every_hook_but_that_of_tracers():
    assert sorted(itertools.chain(*(hooks for _, hooks in PARTS.values()))) == sorted(
        set(hook_names()) - {"mtcore_trace_model"}
    )


def test_the_name_of_the_template_stands_nowhere_in_a_new_plugin(tmp_path):
    made = new_plugin("acme-quant", tmp_path / "plugin")
    assert set(made.files) == {
        str(path.relative_to(made.directory)) for path in made.directory.rglob("*") if path.is_file()
    }
    for file in made.files:
        assert "template" not in file
        assert "template" not in (made.directory / file).read_text()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_alone_has_its_hooks_its_file_its_test_and_no_import_too_many(part, tmp_path):
    made = new_plugin("acme", tmp_path / "plugin", [part])
    file, hooks = PARTS[part]
    source, found = hooks_of(made)
    assert found == list(hooks)
    assert {Path(name).stem for name in made.files if name.startswith("src/")} == {"__init__", "hooks", "py", file}
    assert {Path(name).stem for name in made.files if name.startswith("tests/")} == {"test_hooks", f"test_{file}"}
    imported = [
        alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    ]
    assert all(source.count(name) > 1 for name in imported), source


def test_the_entry_point_is_named_without_the_mtopt_before_it(tmp_path):
    made = new_plugin("mtopt-acme", tmp_path / "plugin")
    project = tomllib.loads((made.directory / "pyproject.toml").read_text())
    assert project["project"]["name"] == "mtopt-acme"
    assert project["project"]["entry-points"]["mtcore"] == {"acme": "mtopt_acme.hooks"}


def test_the_template_is_for_this_mtcore():
    project = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]
    minor = int(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"].split(".")[1])
    assert project["dependencies"] == [f"mtcore>=0.{minor},<0.{minor + 1}"]
    assert 'MTCORE_HOOK_API = "{}.{}"'.format(*HOOK_API) in (TEMPLATE / "src/mtopt_template/hooks.py").read_text()


@pytest.mark.parametrize("name", ["Acme", "acme_quant", "-acme", "acme-", "../acme", "", "1acme"])
def test_a_name_that_is_none_is_refused(name, tmp_path):
    with pytest.raises(PluginError, match="is no name for a plugin"):
        new_plugin(name, tmp_path / "plugin")


@pytest.mark.parametrize("name", ["mtcore", "torch", "json", "class"])
def test_a_name_that_is_taken_is_refused(name, tmp_path):
    with pytest.raises(PluginError, match="exists already"):
        new_plugin(name, tmp_path / "plugin")


@pytest.mark.parametrize(
    ("parts", "complaint"), [(["formats"], "no part 'formats'; choose among command"), ([], "does nothing")]
)
def test_parts_that_do_not_exist_are_refused(parts, complaint, tmp_path):
    with pytest.raises(PluginError, match=complaint):
        new_plugin("acme", tmp_path / "plugin", parts)


def test_a_directory_that_exists_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(PluginError, match="exists already; choose another --directory"):
        new_plugin("acme", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_where_nothing_can_be_written_nothing_is_left(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PluginError, match="cannot be written"):
        new_plugin("acme", tmp_path / "file" / "plugin")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

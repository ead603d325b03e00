"""`mtopt plugins`."""

import json

import pytest

from mtcore.hookspecs import hookimpl
from mtcore.plugins import Registry, diagnose
from mtcore.recipe import RecipeSpec


class Good:
    @hookimpl
    def mtcore_recipes(self):
        yield RecipeSpec("mine", "a recipe", "rules: []")

    @hookimpl
    def mtcore_load_model(self, source):
        return None


class Broken:
    @hookimpl
    def mtcore_recipes(self):
        raise RuntimeError("no such library")


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    loaded = Registry.load([Good(), Broken()], discover=False)
    monkeypatch.setattr("mtcore.plugins.default_registry", lambda: loaded)


def test_each_plugin_is_listed_with_what_it_brings(mtopt):
    shown = mtopt("plugins").out
    assert "builtin" in shown
    assert "1 recipes" in shown
    assert "load_model" in shown


def test_a_failure_is_listed_with_its_reason(mtopt):
    shown = mtopt("plugins").out
    assert "failed plugin 'Broken' failed to load: RuntimeError: no such library" in shown
    assert "Traceback" not in shown


def test_debug_shows_the_traceback_of_a_failure(mtopt):
    assert "Traceback" in mtopt("plugins", "--debug").out


def test_json_tells_provenance_contributions_and_failures(mtopt):
    data = json.loads(mtopt("plugins", "--json").out)
    builtin = data["plugins"][0]
    assert (builtin["name"], builtin["entry_point"]) == ("builtin", "mtcore.builtin")
    assert builtin["contributes"]["mtcore_formats"] > 0
    assert data["failures"][0]["error"] == "RuntimeError: no such library"


def test_without_plugins_only_the_built_ins_are_there(mtopt):
    data = json.loads(mtopt("plugins", "--json", "--no-plugins").out)
    assert [plugin["name"] for plugin in data["plugins"]] == ["builtin"]


@pytest.fixture
def diagnosed(monkeypatch):
    """Lets the doctor see some plugins, and none that is installed."""

    def see(*extra):
        monkeypatch.setattr("mtcore.plugins.diagnose", lambda discover: diagnose(extra, discover=False))

    return see


def test_the_doctor_names_every_record_and_is_content(diagnosed, mtopt):
    diagnosed(Good())
    shown = mtopt("plugins", "doctor")
    assert shown.code == 0
    assert "ok plugin 'Good', hook API 0.1" in shown.out
    assert "recipes: mine" in shown.out
    assert "0 things wrong" in shown.out


def test_the_doctor_shows_failures_with_tracebacks_and_an_exit_code(diagnosed, mtopt):
    diagnosed(Good(), Broken())
    shown = mtopt("plugins", "doctor")
    assert shown.code == 1
    assert "failed plugin 'Broken' failed to load: RuntimeError: no such library" in shown.out
    assert "Traceback" in shown.out


def test_the_doctor_shows_conflicts(diagnosed, mtopt):
    class Twin(Good): ...

    diagnosed(Good(), Twin())
    shown = mtopt("plugins", "doctor", "--json")
    assert shown.code == 1
    assert "'mine' is brought by plugin 'Good' and by plugin 'Twin'" in json.loads(shown.out)["conflicts"][0]

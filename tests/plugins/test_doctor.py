"""The doctor tells everything that is wrong, also where a registry would stop at the first."""

import json

import pytest

from mtcore.errors import PluginError
from mtcore.plugins import Registry, diagnose

FORMAT = """
    from mtcore.formats import PER_TENSOR, Float32Element, FloatElement, Scale, TensorFormat
    from mtcore.hookspecs import hookimpl

    MTCORE_HOOK_API = "{api}"

    @hookimpl
    def mtcore_formats():
        yield TensorFormat("{name}", FloatElement(2, 2), (Scale(Float32Element(), PER_TENSOR),))
"""


def test_a_plugin_in_order_is_shown_with_the_names_of_its_records(make_plugin, make_format):
    mine = make_plugin(
        "mine", mtcore_formats=lambda: [make_format("a5"), make_format("b5")], mtcore_load_model=lambda source: None
    )
    diagnosis = diagnose([mine], discover=False)
    assert diagnosis.healthy
    assert diagnosis.brings["mine"] == {"mtcore_formats": ("a5", "b5"), "mtcore_load_model": ()}


def test_a_name_that_two_plugins_bring_is_a_conflict_and_both_are_shown(make_plugin, make_format):
    plugins = [make_plugin(name, mtcore_formats=lambda: [make_format("toy5")]) for name in ("a", "b")]
    with pytest.raises(PluginError):
        Registry.load(plugins, discover=False)
    diagnosis = diagnose(plugins, discover=False)
    assert not diagnosis.healthy
    [conflict] = diagnosis.conflicts
    assert "'toy5' is brought by plugin 'a' and by plugin 'b'" in conflict
    assert {"a", "b"} <= {plugin.name for plugin in diagnosis.plugins}


def test_two_plugins_of_one_name_are_a_conflict_and_the_others_are_shown(install):
    install("mtopt-toy-a", FORMAT.format(name="a5", api="0.1"))
    install("mtopt-toy-b", FORMAT.format(name="b5", api="0.1"))
    install("mtopt-toy-c", FORMAT.format(name="c5", api="0.1"), plugin="c")
    diagnosis = diagnose()
    assert any("two plugins have the name 'toy'" in conflict for conflict in diagnosis.conflicts)
    assert {"toy", "c"} <= {plugin.name for plugin in diagnosis.plugins}


def test_a_plugin_that_breaks_on_import_is_shown_with_its_traceback(install):
    install("mtopt-toy", "raise RuntimeError('the library is too old')")
    diagnosis = diagnose()
    [failure] = [failure for failure in diagnosis.failures if failure.distribution == "mtopt-toy"]
    assert "RuntimeError: the library is too old" in failure.traceback
    assert "mtopt_toy_hooks.py" in failure.traceback


def test_a_newer_hook_api_is_refused_by_name(install):
    install("mtopt-toy", FORMAT.format(name="toy5", api="0.9"))
    [failure] = [failure for failure in diagnose().failures if failure.distribution == "mtopt-toy"]
    assert failure.error == "written for hook API 0.9, newer than 0.1: upgrade mtcore"


@pytest.fixture
def hook_api(monkeypatch):
    """Makes this mtcore one of a later hook API."""

    def be(major, minor):
        monkeypatch.setattr("mtcore.plugins.compatibility.compatibility_note.__defaults__", ((major, minor),))
        monkeypatch.setattr("mtcore.builtin.MTCORE_HOOK_API", f"{major}.{minor}")

    return be


@pytest.mark.parametrize("minor", [2, 3])
def test_a_plugin_for_an_older_hook_api_works_for_two_minor_versions_with_a_note(install, hook_api, minor):
    install("mtopt-toy", FORMAT.format(name="toy5", api="0.1"))
    hook_api(0, minor)
    assert "toy5" in Registry.load(only=["toy"]).formats
    [info] = [plugin for plugin in diagnose().plugins if plugin.name == "toy"]
    assert info.note.endswith("and the last that takes it is 0.3")


def test_after_two_minor_versions_it_is_refused(install, hook_api):
    install("mtopt-toy", FORMAT.format(name="toy5", api="0.1"))
    hook_api(0, 4)
    [failure] = Registry.load(only=["toy"]).failures
    assert failure.error == "written for hook API 0.1, too old for 0.4: upgrade the plugin"


def test_the_diagnosis_can_be_written_as_json(make_plugin, make_format):
    mine = make_plugin("mine", mtcore_formats=lambda: [make_format("a5")])
    data = json.loads(json.dumps(diagnose([mine], discover=False).to_json()))
    assert data["healthy"] is True
    assert data["plugins"][-1]["contributes"] == {"mtcore_formats": ["a5"]}

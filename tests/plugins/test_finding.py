"""Discovery: real distributions on sys.path, and everything that may be wrong with one."""

import subprocess
import sys

import click
import pytest

from mtcore.errors import PluginError, UnknownNameError
from mtcore.plugins import Registry, find_plugins

FORMAT = """
    from mtcore.formats import PER_TENSOR, Float32Element, FloatElement, Scale, TensorFormat
    from mtcore.hookspecs import hookimpl

    MTCORE_HOOK_API = "0.1"

    @hookimpl
    def mtcore_formats():
        yield TensorFormat("{name}", FloatElement(2, 2), (Scale(Float32Element(), PER_TENSOR),))
"""


def toys(found):
    """The installed plugins that a test made (others may be installed beside it)."""
    return [plugin for plugin in found.plugins if plugin.info.distribution.startswith("mtopt-toy")]


def failures(registry):
    return [failure for failure in registry.failures if failure.distribution.startswith("mtopt-toy")]


def test_an_installed_plugin_is_found_with_its_provenance(install):
    install("mtopt-toy", FORMAT.format(name="toy5"))
    registry = Registry.load()
    assert registry.formats["toy5"].element.bits == 5
    info = next(info for info in registry.plugins if info.name == "toy")
    assert (info.distribution, info.version, info.entry_point) == ("mtopt-toy", "1.2", "mtopt_toy_hooks")
    assert info.file.endswith("mtopt_toy_hooks.py")
    assert info.to_json()["contributes"] == {"mtcore_formats": 1}
    assert info.to_json()["hook_api"] == "0.1"


def test_an_absent_plugin_leaves_a_clear_error():
    with pytest.raises(UnknownNameError, match="no number format named 'toy5'"):
        Registry.load(discover=False).formats["toy5"]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (
            "import a_library_that_is_not_there",
            "ModuleNotFoundError: No module named 'a_library_that_is_not_there'",
        ),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def broken(:", "SyntaxError: invalid syntax"),
    ],
)
def test_a_plugin_that_breaks_on_import_is_a_failure_and_others_load(install, source, error):
    install("mtopt-toy-bad", source, plugin="bad")
    install("mtopt-toy-good", FORMAT.format(name="toy5"), plugin="good")
    registry = Registry.load()
    assert "toy5" in registry.formats
    [failure] = failures(registry)
    assert error in failure.error
    assert (failure.plugin, failure.distribution, failure.version) == ("bad", "mtopt-toy-bad", "1.2")
    assert "Traceback" in failure.traceback
    with pytest.raises(UnknownNameError, match=r"plugin 'bad' \(mtopt-toy-bad 1\.2\) failed to load"):
        registry.formats["toy6"]
    with pytest.raises(PluginError, match="plugin 'bad'"):
        Registry.load(strict=True)


def test_ctrl_c_during_an_import_is_the_users(install):
    install("mtopt-toy", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        Registry.load()


def test_a_malformed_entry_points_file_costs_only_its_distribution(install):
    install("mtopt-toy-bad", "", entry_points="[mtcore]\nthis is no entry point\n")
    install("mtopt-toy-good", FORMAT.format(name="toy5"), plugin="good")
    registry = Registry.load()
    assert "toy5" in registry.formats
    assert [failure.distribution for failure in failures(registry)] == ["mtopt-toy-bad"]


def test_a_distribution_that_is_shadowed_does_not_count(install):
    install("mtopt-toy", FORMAT.format(name="toy5"))
    install("mtopt_toy", FORMAT.format(name="toy6"))  # the same name as packaging sees it, earlier on sys.path
    formats = Registry.load().formats
    assert "toy6" in formats
    assert "toy5" not in formats


def test_two_plugins_with_one_name_are_an_error_that_names_both(install):
    install("mtopt-toy-a", FORMAT.format(name="a5"))
    install("mtopt-toy-b", FORMAT.format(name="b5"))
    with pytest.raises(
        PluginError, match=r"name 'toy': mtopt_toy_a_hooks of mtopt-toy-a 1\.2 and mtopt_toy_b_hooks"
    ):
        find_plugins()
    assert toys(find_plugins(exclude=["toy"])) == []


def test_a_format_of_two_distributions_is_an_error_that_names_both(install):
    install("mtopt-toy-a", FORMAT.format(name="toy5"), plugin="a")
    install("mtopt-toy-b", FORMAT.format(name="toy5"), plugin="b")
    with pytest.raises(
        PluginError, match=r"'toy5' is brought by plugin 'a' \(mtopt-toy-a 1.2\) and by plugin 'b' \("
    ):
        Registry.load()


def test_installed_plugins_stand_in_the_order_of_their_names(install):
    for name in ("c", "a", "b"):
        install(f"mtopt-toy-{name}", FORMAT.format(name=f"{name}5"), plugin=name)
    assert [plugin.info.name for plugin in toys(find_plugins())] == ["a", "b", "c"]


def test_the_first_asked_are_those_handed_over_then_installed_by_name_then_built_ins(install, make_plugin):
    source = """
        from torch import nn
        from mtcore.flow.loaded import LoadedModel
        from mtcore.hookspecs import hookimpl

        MTCORE_HOOK_API = "0.1"

        @hookimpl{options}
        def mtcore_load_model(source):
            return LoadedModel(nn.ReLU(), source)
    """
    for name in ("b", "a"):
        install(f"mtopt-toy-{name}", source.format(options=""), plugin=name)
    assert Registry.load(only=["a", "b"]).load_model("x").loader == "a"
    install("mtopt-toy-c", source.format(options="(tryfirst=True)"), plugin="c")
    assert Registry.load(only=["a", "b", "c"]).load_model("x").loader == "c"
    loaded = Registry.load(only=["a"]).load_model("x")
    mine = make_plugin("mine", mtcore_load_model=lambda source: type(loaded)(loaded.model, source))
    assert Registry.load([mine], only=["a"]).load_model("x").loader == "mine"


def test_the_environment_restricts_discovery(install, monkeypatch):
    install("mtopt-toy-a", FORMAT.format(name="a5"), plugin="a")
    install("mtopt-toy-b", "raise RuntimeError('never imported')", plugin="b")
    monkeypatch.setenv("MTCORE_PLUGINS", "only:a")
    registry = Registry.load(strict=True)
    assert "a5" in registry.formats
    monkeypatch.setenv("MTCORE_PLUGINS", "no:a,b")
    with pytest.raises(UnknownNameError, match=r"plugins left out \(MTCORE_PLUGINS=no:a,b\): a, b"):
        Registry.load().formats["a5"]


def test_a_plugin_that_was_asked_for_and_is_not_installed_is_a_failure(install):
    install("mtopt-toy-a", FORMAT.format(name="a5"), plugin="a")
    found = find_plugins(only=["a", "aa"])
    assert [failure.plugin for failure in found.failures] == ["aa"]
    assert "no such plugin is installed (chosen in code); installed: " in found.failures[0].error


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("", 'it states no hook API; write MTCORE_HOOK_API = "0.1" beside its hooks'),
        ("MTCORE_HOOK_API = 1", "MTCORE_HOOK_API is 1; write the version as text, like '0.1'"),
        ("MTCORE_HOOK_API = '0.9'", "written for hook API 0.9, newer than 0.1: upgrade mtcore"),
        ("MTCORE_HOOK_API = '1.0'", "written for hook API 1.0, newer than 0.1: upgrade mtcore"),
    ],
)
def test_the_hook_api_is_stated_and_not_newer(install, line, error):
    install("mtopt-toy", FORMAT.format(name="toy5").replace('MTCORE_HOOK_API = "0.1"', line))
    assert [failure.error for failure in failures(Registry.load())] == [error]


def test_a_plugin_handed_over_in_code_may_leave_the_hook_api_out(make_plugin, make_format):
    plugin = make_plugin("toy", mtcore_formats=lambda: [make_format("x")])
    assert find_plugins([plugin], discover=False).failures == ()
    plugin.MTCORE_HOOK_API = "7.0"
    assert "newer than 0.1" in find_plugins([plugin], discover=False).failures[0].error


def test_two_plugins_handed_over_under_one_name_are_an_error(make_plugin, make_format):
    one, two = (make_plugin("toy", mtcore_formats=lambda: [make_format("x")]) for _ in range(2))
    with pytest.raises(PluginError, match="two plugins have the name 'toy'"):
        find_plugins([one, two], discover=False)


def test_commands_are_added_and_a_plugin_that_fails_adds_none(make_plugin):
    def half(cli):
        cli.add_command(click.Command("half"))
        raise OSError("no")

    def thief(cli):
        cli.add_command(click.Command("quantize"))

    plugins = [
        make_plugin("good", mtcore_add_commands=lambda cli: cli.add_command(click.Command("hello"))),
        make_plugin("half", mtcore_add_commands=half),
        make_plugin("thief", mtcore_add_commands=thief),
    ]
    cli = click.Group(commands={"quantize": (ours := click.Command("quantize"))})
    failed = find_plugins(plugins, discover=False).add_commands(cli)
    assert sorted(cli.commands) == ["hello", "quantize"]
    assert cli.commands["quantize"] is ours
    assert {failure.plugin: failure.error for failure in failed} == {
        "half": "OSError: no",
        "thief": "it replaces commands of mtopt: quantize",
    }


def test_finding_plugins_imports_no_torch():
    code = "import sys, mtcore.plugins as p; p.find_plugins(discover=False); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_importing_mtcore_imports_no_plugin(install, tmp_path):
    install("mtopt-toy", "raise RuntimeError('imported')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'mtopt-toy')!r}); import mtcore, mtcore.plugins"
    subprocess.run([sys.executable, "-c", code], check=True)

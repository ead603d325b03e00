"""Checks of one plugin's hooks: misspelt, unmarked, wrong arguments, wrappers, none."""

import pytest

from mtcore.errors import PluginError
from mtcore.hookspecs import hookimpl
from mtcore.plugins.checking import checked_hooks, hook_names


def test_a_misspelt_hook_names_the_nearest_one(make_plugin):
    with pytest.raises(PluginError, match=r"there is no hook 'mtcore_format'; did you mean 'mtcore_formats'\?"):
        checked_hooks(make_plugin("toy", mtcore_format=lambda: ()))


def test_an_argument_that_the_hook_does_not_have_is_named(make_plugin):
    with pytest.raises(PluginError, match="srce"):
        checked_hooks(make_plugin("toy", mtcore_load_model=lambda srce: None))


def test_a_function_with_a_hooks_name_and_no_marker_is_refused():
    class Plugin:
        def mtcore_formats(self):
            return ()

    with pytest.raises(PluginError, match=r"mtcore_formats is not marked with mtcore\.hookspecs\.hookimpl"):
        checked_hooks(Plugin())


def test_a_plugin_without_hooks_is_refused():
    with pytest.raises(PluginError, match="it has no hooks"):
        checked_hooks(object())


def test_a_wrapper_is_refused():
    class Plugin:
        @hookimpl(wrapper=True)
        def mtcore_load_model(self, source):
            return (yield)

    with pytest.raises(PluginError, match="mtcore_load_model is a hook wrapper"):
        checked_hooks(Plugin())


def test_a_plugin_may_leave_out_arguments(make_plugin):
    assert list(checked_hooks(make_plugin("toy", mtcore_calibration_batches=lambda source: None))) == [
        "mtcore_calibration_batches"
    ]


def test_hooks_are_listed_in_the_order_of_the_page():
    assert hook_names()[0] == "mtcore_add_commands"
    assert hook_names()[-1] == "mtcore_after_phase"

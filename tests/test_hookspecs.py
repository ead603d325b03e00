"""The page of hooks: every hook is documented with its arguments and an example."""

import inspect

import pytest

from mtcore import hookspecs
from mtcore.plugins.calls import resolve
from mtcore.plugins.checking import hook_names


@pytest.mark.parametrize("name", hook_names())
def test_every_hook_has_an_example_and_says_what_its_arguments_are(name):
    hook = getattr(hookspecs, name)
    assert ">>>" in hook.__doc__
    for argument in inspect.signature(hook).parameters:
        assert argument in hook.__doc__


@pytest.mark.parametrize("name", [*hookspecs.RECORD_HOOKS, *hookspecs.FIRST_RESULTS])
def test_what_a_hook_gives_exists(name):
    hook = hookspecs.RECORD_HOOKS.get(name)
    assert resolve(hook.record if hook else hookspecs.FIRST_RESULTS[name])

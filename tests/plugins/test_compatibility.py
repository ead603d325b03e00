"""Hook versions: newer is refused, two minor versions older still works, with a note."""

import pytest

from mtcore.errors import PluginError
from mtcore.plugins.compatibility import compatibility_note, parse_version


def test_the_same_version_needs_no_note():
    assert compatibility_note((0, 4), ours=(0, 4)) == ""


@pytest.mark.parametrize(("declared", "last"), [((0, 3), "0.5"), ((0, 2), "0.4")])
def test_two_minor_versions_back_work_and_the_note_says_until_when(declared, last):
    assert compatibility_note(declared, ours=(0, 4)).endswith(f"the last that takes it is {last}")


@pytest.mark.parametrize(("declared", "ours"), [((0, 1), (0, 4)), ((0, 4), (1, 0))])
def test_older_than_that_is_refused(declared, ours):
    with pytest.raises(PluginError, match=r"too old for .*: upgrade the plugin"):
        compatibility_note(declared, ours=ours)


@pytest.mark.parametrize("declared", [(0, 5), (1, 0)])
def test_newer_is_refused(declared):
    with pytest.raises(PluginError, match=r"newer than 0\.4: upgrade mtcore"):
        compatibility_note(declared, ours=(0, 4))


@pytest.mark.parametrize("text", [None, 0.1, (0, 1), "0", "0.1.2", "v0.1"])
def test_a_version_is_text_of_two_numbers(text):
    with pytest.raises(PluginError, match="write the version as text"):
        parse_version(text)

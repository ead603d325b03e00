"""Which log lines reach the screen."""

import logging
import warnings

import pytest

from mtcore.cli.logs import logs_on_stderr


@pytest.mark.parametrize(("verbose", "shown"), [(False, False), (True, True)])
def test_decisions_and_warnings_are_shown_only_when_asked_for(verbose, shown, capsys):
    with logs_on_stderr(verbose=verbose):
        logging.getLogger("mtcore").info("a decision")
        warnings.warn("a warning", stacklevel=1)
    text = capsys.readouterr().err
    assert ("a decision" in text, "a warning" in text) == (shown, shown)


def test_errors_are_always_shown(capsys):
    with logs_on_stderr(verbose=False):
        logging.getLogger("mtcore").error("broken")
    assert "ERROR mtcore: broken" in capsys.readouterr().err


def test_logging_is_put_back_also_after_an_exception():
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    with pytest.raises(RuntimeError), logs_on_stderr(verbose=True):
        raise RuntimeError
    assert (root.level, list(root.handlers)) == before

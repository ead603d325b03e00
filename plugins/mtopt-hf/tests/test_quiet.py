"""Silence is for a while: every switch is back where it was, also after an error."""

from __future__ import annotations

import logging

import huggingface_hub.utils as hub
import pytest
import tqdm
from transformers.utils import logging as transformers_log

from mtopt_hf.quiet import quiet_transformers


def state() -> tuple[object, ...]:
    return (
        transformers_log.get_verbosity(),
        transformers_log.is_progress_bar_enabled(),
        hub.are_progress_bars_disabled(),
        logging.getLogger("compressed_tensors").level,
        tqdm.tqdm.__init__,
    )


def speak_and_fail() -> None:
    with quiet_transformers():
        assert list(tqdm.tqdm([1, 2], disable=False)) == [1, 2]
        transformers_log.get_logger("transformers.x").warning("hidden")
        raise RuntimeError("planned")


def test_bars_and_warnings_are_gone_inside_and_back_outside(capfd: pytest.CaptureFixture[str]) -> None:
    before = state()
    with pytest.raises(RuntimeError, match="planned"):
        speak_and_fail()
    assert state() == before
    assert capfd.readouterr().err == ""
    list(tqdm.tqdm([1]))
    assert capfd.readouterr().err != ""


def test_bars_that_were_off_stay_off() -> None:
    transformers_log.disable_progress_bar()
    try:
        with quiet_transformers():
            pass
        assert not transformers_log.is_progress_bar_enabled()
    finally:
        transformers_log.enable_progress_bar()

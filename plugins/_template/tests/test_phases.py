"""Phases are logged with their time."""

import logging

import pytest

import mtopt_template.hooks
from mtcore.plugins import Registry, RunFacts


def test_a_phase_is_logged_when_it_begins_and_when_it_ends(caplog):
    registry = Registry.load([mtopt_template.hooks], discover=False, strict=True)
    with caplog.at_level(logging.INFO, "mtopt_template"), registry.phase(RunFacts("model", "fp8"), "calibrate"):
        pass
    first, last = caplog.messages
    assert first == "model: calibrate begins"
    assert last.startswith("model: calibrate ended after")


def test_a_phase_that_fails_is_logged_as_such(caplog):
    registry = Registry.load([mtopt_template.hooks], discover=False, strict=True)
    run = RunFacts("model", "fp8")
    with caplog.at_level(logging.INFO, "mtopt_template"), pytest.raises(OSError), registry.phase(run, "export"):
        raise OSError("disk full")
    assert caplog.messages[-1].endswith(", badly")

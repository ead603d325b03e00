import json

import pytest
import torch
from torch import nn

from mtcore.errors import StateError
from mtcore.trace import Failure, TraceReport, analyze


def test_a_report_survives_json(block, x):
    report = analyze(block, x)
    assert TraceReport.from_json(report.to_json()) == report
    assert report.shared_inputs
    assert report.calls("q") == 1
    assert report.calls("nowhere") == 0


def test_the_report_names_what_was_not_called_and_what_failed(block):
    block.extra = nn.Linear(2, 2)
    report = analyze(block, torch.randn(2, 3))
    assert "extra" in report.uncalled
    assert [f.module for f in report.failures] == ["norm", ""]
    assert isinstance(report.failures[0], Failure)


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"version": 99}), json.dumps({"version": 1})])
def test_a_text_that_is_no_report_is_refused(text):
    with pytest.raises(StateError, match="trace the model again"):
        TraceReport.from_json(text)

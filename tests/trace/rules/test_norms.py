"""Weight norm: the direction keeps its values, the length scales."""

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from mtcore.trace import Invariance, TraceInputs, analyze


def test_the_length_of_a_weight_norm_folds_into_the_next_layer():
    torch.manual_seed(0)
    model = nn.Sequential(weight_norm(nn.Linear(4, 6, bias=False)), nn.ReLU(), nn.Linear(6, 3))
    x = torch.randn(2, 4)
    report = analyze(model, (x,))
    assert (report.unknown_ops, report.rule_errors) == ((), ())
    (group,) = report.folds
    length, direction = (f"0.parametrizations.weight.original{i}" for i in (0, 1))
    assert length in group.parameters
    assert direction not in group.parameters
    assert Invariance(model, TraceInputs((x,))).check(group).exact


def test_a_weight_norm_along_the_kernel_of_a_convolution_is_known():
    model = nn.Sequential(weight_norm(nn.Conv1d(8, 8, 4, groups=2), dim=2), nn.GELU(), nn.Conv1d(8, 4, 1))
    report = analyze(model, (torch.randn(2, 8, 9),))
    assert (report.unknown_ops, report.rule_errors) == ((), ())

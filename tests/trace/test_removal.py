"""Removal against masking: what counts as equal."""

import torch
from torch import nn

from mtcore.trace import TraceInputs, analyze
from mtcore.trace.removal import Trial, check_removal


class Faint(nn.Module):
    """A branch that hardly changes the output."""

    def __init__(self, strength):
        super().__init__()
        self.strength = strength
        self.up, self.down, self.main = nn.Linear(6, 8), nn.Linear(8, 6), nn.Linear(6, 6)

    def forward(self, x):
        return self.main(x) + self.strength * self.down(torch.relu(self.up(x)))


def outcome(strength):
    torch.manual_seed(0)
    model, inputs = Faint(strength), TraceInputs((torch.randn(4, 6),))
    (group,) = [g for g in analyze(model, inputs).symbols if g.state == "searchable"]
    return check_removal(model, inputs, group, trial=Trial.of(model, inputs))


def test_a_removal_whose_mask_changes_less_than_rounding_is_no_mismatch():
    check = outcome(1e-15)
    assert check.effect < 1e-12
    assert check.outcome == "ok"


def test_a_visible_mask_is_held_to_its_effect():
    check = outcome(1e-6)
    assert check.outcome == "ok"
    assert check.error <= 1e-4 * check.effect

"""Hundreds of spoilt checkpoints, seeded: linting never raises, and opening one gives one clear line or a model."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[4] / "bench" / "mutated_checkpoints.py"


@pytest.fixture(scope="module")
def outcome():
    spec = importlib.util.spec_from_file_location("mutated_checkpoints", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module.run(400, seed=1, load_every=4)


def test_no_mutant_makes_linting_or_loading_raise_anything_but_a_clear_error(outcome):
    assert outcome.faults == []


def test_no_mutant_takes_long(outcome):
    assert outcome.slowest < 2.0  # a good one of this size takes 0.01 s


@pytest.mark.parametrize(
    "kind",
    [
        *("bytes of the header", "length of the header", "cut", "lengthened", "a tensor doubled", "a scale"),
        "an entry of the header",
    ],
)
def test_damage_that_no_client_survives_is_always_noticed(outcome, kind):
    assert outcome.noticed[kind] >= 0.98 * outcome.count[kind]


def test_a_weight_is_not_looked_at(outcome):
    assert outcome.noticed["a weight"] == 0

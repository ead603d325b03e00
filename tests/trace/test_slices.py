"""Slices say which numbers belong together, and know at a glance where all do in order."""

import numpy as np
import torch

from mtcore.trace import Slices
from mtcore.trace.slices import whole_range


def test_numbers_in_order_are_one_shared_tensor():
    side = Slices("a.weight", (0,), tuple(range(6)), (0, 1, 2, 3, 5, 4))
    other = Slices("b.weight", (1,), tuple(range(6)), tuple(range(6)))
    assert side.places is other.places is other.channel_numbers is whole_range(6)
    assert side.channel_numbers.tolist() == [0, 1, 2, 3, 5, 4]
    assert whole_range(6).dtype == torch.int64


def test_what_is_known_of_the_numbers_is_no_part_of_the_value():
    one, other = (Slices("a.weight", (0,), (0, 2), (0, 1)) for _ in range(2))
    assert one.places.tolist() == [0, 2]
    assert one == other
    assert hash(one) == hash(other)
    assert Slices.from_dict(one.to_dict()) == one


def test_a_part_of_a_range_is_not_the_range():
    assert Slices("a", (0,), tuple(np.arange(1, 7).tolist()), tuple(range(6))).places is not whole_range(6)


def test_the_same_slices_of_another_parameter_keep_what_is_known_of_the_numbers():
    one = Slices("a.weight", (0,), (0, 2), (1, 0), 1.0)
    other = one.of("b.weight")
    assert other == Slices("b.weight", (0,), (0, 2), (1, 0), 1.0)
    assert other.places is one.places
    assert other.channel_numbers is one.channel_numbers

"""Values made ahead come in order, within their bytes, and stop with whoever uses them."""

import threading

import pytest
import torch

from mtcore.files.ahead import AHEAD, made_ahead


class Making:
    """Tells which values were made, and waits until it is asked how many."""

    def __init__(self):
        self.made = []
        self.changed = threading.Condition()

    def __call__(self, number):
        with self.changed:
            self.made.append(number)
            self.changed.notify_all()
        return number

    def reach(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.made) >= count, timeout=10)
            return list(self.made)


def test_values_come_in_order_from_one_other_thread():
    with made_ahead([1] * 50, lambda number: (number, threading.get_ident())) as made:
        numbers, threads = zip(*made, strict=True)
    assert numbers == tuple(range(50))
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads


def test_the_next_values_are_made_while_one_is_used_and_no_more():
    making = Making()
    with made_ahead([1] * 10, making) as made:
        for used in range(10):
            next(made)
            assert len(making.reach(min(10, used + 1 + AHEAD))) <= used + 1 + AHEAD


def test_what_is_held_keeps_to_its_bytes_and_a_larger_value_is_alone():
    making, sizes = Making(), [4, 4, 4, 100, 1, 1]
    with made_ahead(sizes, making, held_bytes=8) as made:
        most = []
        for used in made:
            last = making.reach(used + 1)[-1]
            most.append(sum(sizes[used : last + 1]))
    assert most[3] == 100
    assert max(most[:3] + most[4:]) <= 8


def test_an_error_of_a_value_comes_when_it_is_asked_for_and_no_value_follows():
    seen, making = [], Making()

    def make(number):
        making(number)
        if number == 2:
            raise OSError(5, "no such page")
        return number

    def use():
        with made_ahead([1] * 9, make) as made:
            seen.extend(made)

    with pytest.raises(OSError, match="no such page"):
        use()
    assert seen == [0, 1]
    assert len(making.made) <= 3 + AHEAD
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("made-ahead")]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_body_that_stops_stops_the_thread(error):
    making = Making()

    def use():
        with made_ahead([1] * 100, making) as made:
            next(made)
            raise error

    with pytest.raises(error):
        use()
    assert len(making.made) <= 1 + AHEAD
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("made-ahead")]


def test_values_have_no_gradients():
    weight = torch.nn.Parameter(torch.ones(2))
    with made_ahead([1], lambda number: weight * 2) as made:
        assert not next(made).requires_grad

"""Ranks share data, and fail together; inside `data_parallel` a calibration asks them."""

from mtcore.calibration.ranks import current_ranks
from mtcore.errors import CalibrationError


def test_every_batch_goes_to_one_rank(on_ranks):
    assert on_ranks(2, lambda ranks: ranks.share([1, 2, 3, 4, 5])) == [[1, 3, 5], [2, 4]]


def test_fewer_batches_than_ranks_are_refused_on_all(on_ranks):
    errors = on_ranks(3, lambda ranks: ranks.share([1, 2]))
    assert all("2 batches cannot be shared by 3 processes" in str(error) for error in errors)


def test_an_error_on_one_rank_is_an_error_on_all(on_ranks):
    def work(ranks):
        with ranks.together():
            if ranks.rank == 1:
                raise ValueError("bad batch")
        return "went on"

    first, second = on_ranks(2, work)
    assert isinstance(first, CalibrationError)
    assert str(first) == "process 1 stopped: ValueError: bad batch"
    assert isinstance(second, ValueError)


def test_without_an_error_all_go_on(on_ranks):
    def work(ranks):
        with ranks.together():
            pass
        return "went on"

    assert on_ranks(2, work) == ["went on", "went on"]


def test_there_are_no_ranks_outside_of_data_parallel():
    assert current_ranks() is None

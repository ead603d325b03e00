"""Ranks that are threads of this process: what they tell each other goes through one list."""

import threading
from collections.abc import Callable

import pytest
import torch

from mtcore.calibration.ranks import Ranks


class ThreadRanks(Ranks):
    """One rank of several, without torch.distributed."""

    def __init__(self, rank: int, board: list, barrier: threading.Barrier) -> None:
        object.__setattr__(self, "_rank", rank)
        object.__setattr__(self, "_board", board)
        object.__setattr__(self, "_barrier", barrier)

    @property
    def rank(self) -> int:
        return self._rank

    @property
    def size(self) -> int:
        return len(self._board)

    def every(self, value):
        self._board[self._rank] = value
        self._barrier.wait(10)
        values = list(self._board)
        self._barrier.wait(10)
        return values

    def total(self, tensor):
        return torch.stack(self.every(tensor)).sum(0).to(tensor.dtype)

    def largest(self, tensor):
        return torch.stack(self.every(tensor)).amax(0)

    def smallest(self, tensor):
        return torch.stack(self.every(tensor)).amin(0)


@pytest.fixture
def on_ranks() -> Callable[..., list]:
    """`on_ranks(2, work)`: what `work(ranks)` returned, or raised, on each rank."""

    def run(size: int, work: Callable[[Ranks], object]) -> list:
        board, barrier, results = [None] * size, threading.Barrier(size), [None] * size

        def one(rank: int) -> None:
            try:
                results[rank] = work(ThreadRanks(rank, board, barrier))
            except Exception as error:  # noqa: BLE001  handed to the test
                results[rank] = error

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        return results

    return run

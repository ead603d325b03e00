"""Bench: times calls on a GPU, prints and collects what came out; for gpu_kernels.py and its parts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection

import torch
from torch import Tensor

from mtcore.testing import same_bits


class Bench:
    """Times, prints and collects.

    Attributes:
        compiled: (I, N) to make every N-th call once, for the compilers' caches, and time none; None to time all.
        inductor: what of a model runs under torch.compile as well.
        layers_alone: whether a model is also timed without computing layers that read one value together.
        formats, recipes: that are measured; all where empty.
        part: of the benchmark, that results belong to.
        save: called after each result, so that a run that is cut short keeps what it has.
        copy: bytes a second of a copy, once it is known, over 10^9.
    """

    def __init__(
        self,
        compiled: tuple[int, int] | None,
        *,
        inductor: Collection[str],
        formats: Collection[str],
        recipes: Collection[str],
        layers_alone: bool = False,
    ) -> None:
        self.compiled, self.inductor, self.formats, self.recipes = compiled, inductor, formats, recipes
        self.layers_alone = layers_alone
        self.save: Callable[[], None] = lambda: None
        self.part, self.copy = "copy", 0.0
        self.results: list[dict[str, object]] = []
        self._count = 0

    @property
    def timing(self) -> bool:
        return self.compiled is None

    def microseconds(self, calls: list[Callable[[], object]], *, eager: bool = False, count: int = 8) -> float:
        """The median time of one call; the calls are made in turn, `count` of them or all in one replay."""
        if self.compiled is not None:
            self._count += 1
            if self._count % self.compiled[1] == self.compiled[0]:
                calls[0]()
            return 1.0
        many = [calls[i % len(calls)] for i in range(max(count, len(calls)))]
        for call in many[:3]:
            call()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        if not eager:
            with torch.cuda.graph(graph):
                for call in many:
                    call()
            graph.replay()
        times = []
        for _ in range(9):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            if eager:
                for call in many:
                    call()
            else:
                graph.replay()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) * 1000 / len(many))
        return statistics.median(times)

    def row(self, name: str, calls: list[Callable[[], object]], size: float, *, eager: bool = False) -> float:
        """Time something that moves `size` bytes at least."""
        us = self.microseconds(calls, eager=eager)
        rate = size / us / 1e3
        share = rate / self.copy if self.copy else 1.0
        self.note(f"{name:44s} {us:9.1f} us {rate:7.0f} GB/s {share:5.2f} of copy{' eager' if eager else ''}")
        self.add(name, us=us, gb_per_s=rate, of_copy=share, eager=eager)
        return us

    def add(self, name: str, **values: object) -> None:
        """Keep a result, with the part of the run that it belongs to."""
        self.results.append({"name": name, "part": self.part, **values})
        self.save()

    def note(self, line: str) -> None:
        """Print a line, unless nothing is timed."""
        if self.timing:
            print(line, flush=True)


def differing(actual: Tensor, expected: Tensor) -> int:
    """How many values are not the same, bit for bit."""
    return int((~same_bits(actual, expected)).sum())

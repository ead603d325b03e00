"""Ranks: processes that calibrate one model together, each on its share of the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

from mtcore.errors import CalibrationError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Ranks:
    """The processes of a group, all of which call the same methods in the same order.

    What a method returns is the same on all of them, bit for bit.
    """

    group: dist.ProcessGroup | None

    @property
    def rank(self) -> int:
        return dist.get_rank(self.group)

    @property
    def size(self) -> int:
        return dist.get_world_size(self.group)

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This rank's items: every `size`-th, from the rank on.

        Raises:
            CalibrationError: there are fewer items than ranks.
        """
        if len(items) < self.size:
            raise CalibrationError(
                f"{len(items)} batches cannot be shared by {self.size} processes; give more samples or a smaller "
                "batch size"
            )
        return list(items[self.rank :: self.size])

    def largest(self, tensor: Tensor) -> Tensor:
        """Element by element; NaN where any rank has one."""
        return self._every(tensor, dist.ReduceOp.MAX)

    def smallest(self, tensor: Tensor) -> Tensor:
        """Element by element."""
        return self._every(tensor, dist.ReduceOp.MIN)

    def total(self, tensor: Tensor) -> Tensor:
        """Element by element; summed up by one rank, so that all get its rounding."""
        summed = tensor.clone()
        root = 0 if self.group is None else dist.get_global_rank(self.group, 0)
        dist.reduce(summed, root, dist.ReduceOp.SUM, self.group)
        dist.broadcast(summed, root, self.group)
        return summed

    def every(self, value: Item) -> list[Item]:
        """The plain values of all ranks, in their order."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, self.group)
        return values

    @contextmanager
    def together(self) -> Iterator[None]:
        """All ranks leave the body well, or all raise: a rank that fails alone would leave the others waiting.

        Raises:
            Exception: what this rank raised.
            CalibrationError: what another rank raised, in words.
        """
        failure: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001  raised again below, when the others know
            failure = error
        messages = self.every(None if failure is None else f"{type(failure).__name__}: {failure}")
        if failure is not None:
            raise failure
        for rank, message in enumerate(messages):
            if message is not None:
                raise CalibrationError(f"process {rank} stopped: {message}")

    def _every(self, tensor: Tensor, op: dist.ReduceOp.RedOpType) -> Tensor:
        reduced = tensor.clone()
        dist.all_reduce(reduced, op, self.group)
        return reduced


_CURRENT: ContextVar[Ranks | None] = ContextVar("mtcore_ranks", default=None)


@contextmanager
def data_parallel(group: dist.ProcessGroup | None = None) -> Iterator[Ranks]:
    """Whatever is calibrated meanwhile takes its statistics from the data of all ranks of a group.

    Every rank holds the same model (or its FSDP2 shards of it), runs its own share of the data, and decides the
    same. The largest magnitudes are those of one process on all of the data, bit for bit; sums are, but for the
    order in which they are added up.

    Args:
        group: of torch.distributed, which must be initialized; all processes where None.

    Example:
        >>> import tempfile, torch
        >>> import torch.distributed as dist
        >>> import mtcore
        >>> from torch import nn
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=0, world_size=1)
        ...     with data_parallel() as ranks:
        ...         model = mtcore.quantize(
        ...             nn.Sequential(nn.Linear(32, 4)),
        ...             {"quant_cfg": {"*input_quantizer": {"num_bits": 8}}, "algorithm": "max"},
        ...             forward_loop=ranks.share([torch.ones(1, 32), -3 * torch.ones(1, 32)]),
        ...         )
        ...     dist.destroy_process_group()
        >>> float(model[0].input_quantizer.amax)
        3.0
    """
    token = _CURRENT.set(Ranks(group))
    try:
        yield Ranks(group)
    finally:
        _CURRENT.reset(token)


def current_ranks() -> Ranks | None:
    """The ranks of the `data_parallel` that is open, or None."""
    return _CURRENT.get()

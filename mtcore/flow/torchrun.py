"""Under torchrun: one process a rank, each with its share of the batches; the first one writes and speaks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from mtcore.calibration.ranks import Ranks, data_parallel


def is_first() -> bool:
    """Whether this process is the one that writes and speaks: the only one, or rank 0."""
    return int(os.environ.get("RANK", "0")) == 0


def several_processes() -> bool:
    """Whether torchrun started more than this one."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def torchrun_ranks() -> Iterator[Ranks | None]:
    """The ranks that torchrun started, for data-parallel calibration; None in a process on its own.

    The process group is made, and ended, here, unless the caller has made one.
    """
    if not several_processes():
        yield None
        return
    made = not dist.is_initialized()
    if made:
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        with data_parallel() as ranks:
            yield ranks
    finally:
        if made:
            dist.destroy_process_group()

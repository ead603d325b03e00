"""One forked process a job, several at a time, each with limits of its own; a dead or late one is a row too."""

from __future__ import annotations

import multiprocessing
import resource
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any, TypeVar

import torch

Job = TypeVar("Job")
Row = dict[str, Any]


def run_all(
    jobs: Sequence[Job], work: Callable[[Job], Row], limit: int, at_once: int = 1
) -> Iterator[tuple[Job, Row]]:
    """Each job with what `work` found, and the seconds that it took as `wall_s`; where it failed, with its `error`.

    One thread forks them all: a fork beside another thread can inherit a held lock.

    Args:
        limit: CPU seconds of one child; ten times as many seconds by the clock.
    """
    fork = multiprocessing.get_context("fork")
    waiting, running = list(reversed(jobs)), {}
    while waiting or running:
        while waiting and len(running) < at_once:
            job = waiting.pop()
            ours, theirs = fork.Pipe(duplex=False)
            child = fork.Process(target=_child, args=(job, work, theirs, limit), daemon=True)
            child.start()
            theirs.close()
            running[ours] = (job, child, time.perf_counter())
        ready = connection.wait(list(running), timeout=0.2)
        for pipe in list(running):
            job, child, start = running[pipe]
            seconds = time.perf_counter() - start
            if pipe in ready:
                try:
                    result = pipe.recv()
                except EOFError:
                    result = {"error": f"the child died, of its limit of {limit} s of CPU time or of a crash"}
            elif seconds > 10 * limit:
                result = {"error": f"no answer after {seconds:.0f} s"}
            else:
                continue
            child.kill()
            child.join()
            pipe.close()
            del running[pipe]
            yield job, rounded({"wall_s": seconds, **result})


def failure(error: BaseException) -> str:
    """An error in one line, with the place where it was raised."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    message = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {message} ({Path(where.filename).name}:{where.lineno})"


def rounded(row: Row) -> Row:
    """Four digits of every number are enough for a table."""
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}


def _child(job: Any, work: Callable[[Any], Row], pipe: Any, limit: int) -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    used = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime)
    resource.setrlimit(resource.RLIMIT_CPU, (used + limit, used + limit))
    try:
        pipe.send(work(job))
    except Exception as error:  # noqa: BLE001  whatever a model raises is its row in the table
        pipe.send({"error": failure(error)})
    pipe.close()

"""Runs: long sequences of numbers as short text, and back."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

_RUN = re.compile(r"(\d+)(?::(\d+)(?::(\d+))?|\*(\d+))?")


def runs_text(numbers: Sequence[int]) -> str:
    """Numbers >= 0 as runs: '0:32' counts up and leaves 32 out, '0:32:4' in steps of 4, '7*3' is 7, 7, 7.

    Example:
        >>> runs_text([0, 1, 2, 3, 8, 10, 12, 5, 5, 5])
        '0:4,8:13:2,5*3'
    """
    values = np.asarray(numbers, np.int64)
    steps = np.diff(values)
    turns = np.append(np.flatnonzero(np.diff(steps)) + 1, max(steps.size, 1))  # first step that differs
    parts, at = [], 0
    while at < values.size:
        first = int(values[at])
        step = int(steps[at]) if at < steps.size else 0
        last = int(turns[np.searchsorted(turns, at, side="right")]) if at < steps.size else at
        count = last - at + 1
        if at == values.size - 1 or step < 0 or (step > 1 and count == 2):
            parts.append(str(first))
            at += 1
            continue
        parts.append(f"{first}*{count}" if step == 0 else _span(first, step, count))
        at += count
    return ",".join(parts)


def runs_from(text: str) -> tuple[int, ...]:
    """The numbers that `runs_text` wrote.

    Raises:
        ValueError: a part is no run.

    Example:
        >>> runs_from("0:4,8:13:2,5*3")
        (0, 1, 2, 3, 8, 10, 12, 5, 5, 5)
    """
    numbers: list[int] = []
    for part in text.split(",") if text else ():
        found = _RUN.fullmatch(part)
        if found is None:
            raise ValueError(f"{part!r} is no run of numbers")
        first, stop, step, times = found.groups()
        if stop is not None:
            numbers.extend(range(int(first), int(stop), int(step or 1)))
        else:
            numbers.extend([int(first)] * int(times or 1))
    return tuple(numbers)


def _span(first: int, step: int, count: int) -> str:
    stop = first + step * (count - 1) + 1
    return f"{first}:{stop}" if step == 1 else f"{first}:{stop}:{step}"

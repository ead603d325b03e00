"""How a run looks while it works: progress bars on a terminal, single lines elsewhere. On stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, Task, TaskID

    from mtcore.flow.report import Phase, Reporter


def make_reporter(stream: TextIO | None = None) -> Reporter:
    """The reporter that suits `stream` (default: stderr)."""
    stream = stream or sys.stderr
    return BarReporter(stream) if stream.isatty() else LineReporter(stream)


EVERY = 30.0
"""Seconds between two lines on a phase that is under way, in a log: one of hours stays short."""


class LineReporter:
    """One line a finished phase, with its time and rate, and some on the way in a long one; one line a note."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.perf_counter) -> None:
        self._stream, self._clock = stream, clock

    @contextmanager
    def phase(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Phase]:
        start = self._clock()
        counter = _Line(
            lambda text: click.echo(f"{name}: {text}", file=self._stream), total, unit, self._clock, start
        )
        yield counter
        click.echo(f"{name}: {_summary(counter.done, unit, self._clock() - start)}", file=self._stream)

    def note(self, text: str) -> None:
        click.echo(text, file=self._stream)


class BarReporter:
    """A bar a phase with rate and remaining time; when the phase is done, one line takes the bar's place."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        self._console = Console(file=stream, highlight=False)
        self._progress = _progress(self._console)

    @contextmanager
    def phase(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Phase]:
        outermost = not self._progress.task_ids
        task = self._progress.add_task(name, total=total, unit=unit)
        bar, start = _Bar(self._progress, task), time.perf_counter()
        if outermost:
            self._progress.start()
        try:
            yield bar
        finally:
            self._progress.remove_task(task)
            if outermost:
                self._progress.stop()
        self._console.print(f"[green]✓[/] {name}: {_summary(bar.done, unit, time.perf_counter() - start)}")

    def note(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(f"• {text}", style="dim"))


class _Counter:
    """A phase without a picture."""

    def __init__(self) -> None:
        self.done = 0

    def advance(self, amount: int = 1) -> None:
        self.done += amount


class _Line(_Counter):
    """A phase that says every now and then how far it is."""

    def __init__(
        self, say: Callable[[str], object], total: int | None, unit: str, clock: Callable[[], float], start: float
    ) -> None:
        super().__init__()
        self._say, self._total, self._unit, self._clock = say, total, unit, clock
        self._start = self._said = start

    def advance(self, amount: int = 1) -> None:
        super().advance(amount)
        now = self._clock()
        if now - self._said >= EVERY:
            self._said = now
            self._say(pace(self.done, self._total, self._unit, now - self._start))


class _Bar(_Counter):
    """A phase with a bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        super().__init__()
        self._progress, self._task = progress, task

    def advance(self, amount: int = 1) -> None:
        super().advance(amount)
        self._progress.advance(self._task, amount)


def _progress(console: Console) -> Progress:
    """A bar that leaves the screen when its phase ends; the summary line takes its place."""
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn
    from rich.text import Text

    class PaceColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(pace(task.completed, task.total, task.fields["unit"], task.elapsed or 0.0))

    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), PaceColumn()
    return Progress(*columns, console=console, transient=True)


def pace(done: float, total: float | None, unit: str, seconds: float) -> str:
    """How much is done, how fast it goes on average, and how long the rest takes at that pace.

    Example:
        >>> pace(2048, 8192, "tokens", 4.0)
        '2,048 of 8,192 tokens, 512 tokens/s, 12 s left'
        >>> pace(0, None, "", 4.0)
        '4 s'
    """
    if not done or not seconds:
        return f"{seconds:.0f} s"
    inside = bool(total) and done <= (total or 0)  # an algorithm may run the data more than once
    known = f"{_count(done)} of {_count(total or 0)} {unit}" if inside else f"{_count(done)} {unit}"
    rest = f", {seconds * ((total or 0) - done) / done:.0f} s left" if inside else ""
    return f"{known}, {_count(done / seconds)} {unit}/s{rest}"


def _summary(done: int, unit: str, seconds: float) -> str:
    """'32,768 tokens in 4.2 s (7,802 tokens/s)'; only the time where nothing was counted."""
    if not done:
        return f"{seconds:.1f} s"
    rate = f" ({_count(done / seconds)} {unit}/s)" if unit and seconds > 0 else ""
    return f"{_count(done)} {unit}".rstrip() + f" in {seconds:.1f} s{rate}"


def _count(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"

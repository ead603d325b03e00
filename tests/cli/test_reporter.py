"""Progress as a person sees it, on a terminal and elsewhere."""

import io

import pytest

from mtcore.cli.reporter import BarReporter, LineReporter, make_reporter, pace


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def ticking():
    """A clock that says 0, 2, 4, … seconds."""
    seconds = iter(range(0, 1000, 2))
    return lambda: float(next(seconds))


def test_a_long_phase_says_in_a_log_how_far_it_is_and_how_long_the_rest_takes():
    out, seconds = io.StringIO(), iter([0.0, 10.0, 40.0, 50.0, 80.0, 81.0])
    with LineReporter(out, clock=lambda: next(seconds)).phase("gptq", total=8, unit="blocks") as phase:
        for _ in range(4):
            phase.advance()
    assert out.getvalue().splitlines() == [
        "gptq: 2 of 8 blocks, 0.05 blocks/s, 120 s left",
        "gptq: 4 of 8 blocks, 0.05 blocks/s, 80 s left",
        "gptq: 4 blocks in 81.0 s (0.049 blocks/s)",
    ]


def test_more_than_was_announced_is_no_negative_rest():
    assert pace(20, 10, "tokens", 2.0) == "20 tokens, 10 tokens/s"


def test_a_phase_is_one_line_with_amount_time_and_rate():
    out, seconds = io.StringIO(), iter([0.0, 0.5, 1.0, 2.0])
    with LineReporter(out, clock=lambda: next(seconds)).phase("calibrate", total=300, unit="tokens") as phase:
        phase.advance(100)
        phase.advance(200)
    assert out.getvalue() == "calibrate: 300 tokens in 2.0 s (150 tokens/s)\n"


def test_a_phase_without_an_amount_shows_its_time(ticking):
    out = io.StringIO()
    with LineReporter(out, clock=ticking).phase("trace"):
        pass
    assert out.getvalue() == "trace: 2.0 s\n"


def test_a_phase_that_raises_claims_no_success():
    out = io.StringIO()
    with pytest.raises(RuntimeError), LineReporter(out).phase("calibrate"):
        raise RuntimeError
    assert out.getvalue() == ""


def test_a_terminal_gets_bars_and_anything_else_lines():
    assert isinstance(make_reporter(Terminal()), BarReporter)
    assert isinstance(make_reporter(io.StringIO()), LineReporter)


def test_phases_may_stand_inside_each_other_on_a_terminal():
    out = Terminal()
    reporter = BarReporter(out)
    with reporter.phase("outer", total=1, unit="layers") as outer:
        with reporter.phase("inner", total=2, unit="tokens") as inner:
            inner.advance(2)
        outer.advance()
    assert out.getvalue().index("inner: 2 tokens") < out.getvalue().index("outer: 1 layers")


def test_a_phase_that_raises_puts_the_terminal_back():
    out = Terminal()
    reporter = BarReporter(out)
    with pytest.raises(RuntimeError), reporter.phase("calibrate", total=3):
        raise RuntimeError
    assert "\x1b[?25h" in out.getvalue()[out.getvalue().rindex("\x1b[?25l") :]  # the cursor is shown again
    with reporter.phase("again"):
        pass


def test_a_note_is_a_line():
    out = io.StringIO()
    LineReporter(out).note("gemm: reference")
    assert out.getvalue() == "gemm: reference\n"


def test_the_pace_tells_how_long_the_rest_takes():
    assert pace(100, 400, "tokens", 2.0) == "100 of 400 tokens, 50 tokens/s, 6 s left"


def test_without_a_known_end_there_is_no_guess():
    assert pace(100, None, "tokens", 2.0) == "100 tokens, 50 tokens/s"


def test_before_the_first_step_only_the_time_is_told():
    assert pace(0, 400, "tokens", 2.0) == "2 s"

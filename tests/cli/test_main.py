"""The entry point: quick, quiet about torch, and every command explains itself."""

import resource
import subprocess
import sys

import pytest

from mtcore.cli.main import mtopt as group
from mtcore.cli.main import run

HELP_LIMIT_S = 0.5
COMMANDS = (
    "algorithms",
    "eval",
    "export",
    "formats",
    "new-plugin",
    "plan",
    "plugins",
    "quantize",
    "recipes",
    "requantize",
    "search",
    "trace",
)


@pytest.fixture(scope="module")
def program():
    """Runs `mtopt ARGS…` in a process of its own, as the installed script does."""

    def start(*args):
        code = "from mtcore.cli.main import main; main()"
        return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)

    return start


def test_help_takes_less_than_half_a_second_in_all(program):
    # Processor time of the child, which waits for nothing: on an idle machine that is its time on the clock, and
    # on a busy one it stays so. The least of three, for neighbours on a core slow it down.
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert program("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < HELP_LIMIT_S


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["plan", "--help"], ["quantize", "--help"]])
def test_help_imports_no_torch(args):
    code = (
        "import sys; from mtcore.cli.main import run; code = run(sys.argv[1:]); "
        "sys.exit(code or ('torch was imported' if 'torch' in sys.modules else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_a_json_option(command, mtopt):
    shown = mtopt(command, "--help")
    assert shown.code == 0
    assert f"Example:\n    mtopt {command}" in shown.out
    for option in ("--json", "--verbose", "--debug", "--no-plugins"):
        assert option in shown.out


def test_the_help_lists_every_command(mtopt):
    assert tuple(sorted(group.commands)) == COMMANDS
    shown = mtopt("--no-plugins", "--help").out
    assert all(f"\n  {command} " in shown for command in COMMANDS)


def test_no_command_at_all_shows_the_help(mtopt):
    shown = mtopt("--no-plugins")
    assert shown.code == 2
    assert "Usage: mtopt" in shown.out + shown.err


def test_the_version_is_that_of_the_package(mtopt):
    from importlib.metadata import version

    assert mtopt("--version").out == f"mtopt, version {version('mtcore')}\n"


def test_a_misspelt_command_is_a_usage_error(mtopt):
    shown = mtopt("--no-plugins", "quantise")
    assert shown.code == 2
    assert "No such command 'quantise'" in shown.err


def test_a_missing_option_is_a_usage_error_that_names_it(mtopt):
    shown = mtopt("plan", "somewhere")
    assert shown.code == 2
    assert "--recipe" in shown.err


def test_ctrl_c_is_one_line_and_130(monkeypatch, mtopt):
    def interrupt(ctx):
        raise KeyboardInterrupt

    monkeypatch.setattr(group, "invoke", interrupt)
    shown = mtopt("formats")
    assert (shown.code, shown.err.strip()) == (130, "interrupted: no checkpoint was written")


def test_an_end_of_input_inside_a_library_is_no_interruption(monkeypatch, mtopt):
    def truncated(ctx):
        raise EOFError("file is too short")

    monkeypatch.setattr(group, "invoke", truncated)
    shown = mtopt("formats")
    assert shown.code == 70
    assert "internal error: EOFError: file is too short" in shown.err


def test_a_reader_that_leaves_early_gets_no_traceback():
    code = "from mtcore.cli.main import main; main()"
    writer = f"{sys.executable} -c '{code}' plan --help"
    done = subprocess.run(["bash", "-c", f"{writer} | true"], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_an_unexpected_error_is_one_line_and_70(monkeypatch):
    def fail(ctx):
        raise ZeroDivisionError

    monkeypatch.setattr(group, "invoke", fail)
    assert run(["formats"]) == 70

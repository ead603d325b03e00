"""What every command has: an answer as tables or JSON, and a clean stdout."""

import json
import logging

import click
import pytest

from mtcore.cli.command import Answer, Command
from mtcore.cli.main import mtopt as group
from mtcore.cli.settings import current_settings


@pytest.fixture
def add(monkeypatch):
    """Adds a command `probe` that runs the given function, for this test."""

    def add(function):
        monkeypatch.setitem(group.commands, "probe", Command("probe", callback=function, example="mtopt probe"))

    return add


def test_the_answer_is_drawn_for_people(add, mtopt):
    add(lambda: Answer({"a": 1}, lambda console: console.print("a is one")))
    assert mtopt("probe").out == "a is one\n"


def test_the_answer_is_json_when_asked_for(add, mtopt):
    add(lambda: Answer({"a": [1.5, float("nan")]}, lambda console: console.print("never")))
    assert json.loads(mtopt("probe", "--json").out) == {"a": [1.5, "nan"]}


def test_the_option_may_stand_before_the_command(add, mtopt):
    add(lambda: Answer({"a": 1}, lambda console: None))
    assert json.loads(mtopt("--json", "probe").out) == {"a": 1}


def test_what_a_library_prints_does_not_reach_stdout(add, mtopt):
    def noisy():
        click.echo("hello from a library")
        logging.getLogger("library").warning("and its log")
        return Answer({}, lambda console: None)

    add(noisy)
    shown = mtopt("probe", "--json")
    assert shown.out == "{}\n"
    assert shown.err == "hello from a library\n"


def test_an_answer_carries_its_exit_code(add, mtopt):
    add(lambda: Answer({}, lambda console: None, exit_code=1))
    assert mtopt("probe").code == 1


def test_a_failing_command_leaves_stdout_empty(add, mtopt):
    def fail():
        raise ZeroDivisionError

    add(fail)
    shown = mtopt("probe", "--json")
    assert (shown.code, shown.out) == (70, "")


def test_settings_are_found_from_inside_a_command(add, mtopt):
    add(lambda: Answer(vars(current_settings())["debug"], lambda console: None))
    assert mtopt("--debug", "probe", "--json").out == "true\n"
    assert mtopt("probe", "--json").out == "false\n"

"""The name of a client stands for the first dialect that both can be written and is run by it."""

from dataclasses import replace

import pytest

from mtcore.errors import UnknownNameError
from mtcore.export import Client, ExporterSpec, SourceFiles, choose_target, target_names
from mtcore.plan import Coverage, Plan

PLAN = Plan("test", (), (), (), (), Coverage(0, 0, 0))


def spec(name, clients=(), problems=(), notes=()):
    return ExporterSpec(
        name, "for tests", lambda plan: problems, lambda artifact, directory: None, lambda plan: notes, clients
    )


def exporters(*specs):
    return {found.name: found for found in specs}


def test_a_dialect_is_its_own_target_with_its_notes():
    target = choose_target("a", PLAN, exporters(spec("a", notes=("folds",))))
    assert (target.dialect, target.why, target.notes, target.problems) == ("a", "", ("folds",), ())


def test_a_plan_that_is_refused_has_problems_and_no_notes():
    def notes(plan):
        raise AssertionError("asked for notes on a plan that was refused")

    target = choose_target("a", PLAN, exporters(replace(spec("a", problems=("no",)), notes=notes)))
    assert (target.notes, target.problems) == ((), ("no",))


def test_a_client_gets_the_dialect_of_the_lowest_rank_and_is_told_why():
    both = exporters(spec("a", (Client("server", "second", 2),)), spec("b", (Client("server", "first", 1),)))
    target = choose_target("server", PLAN, both)
    assert (target.name, target.dialect, target.why) == ("server", "b", "first")


def test_a_dialect_that_cannot_hold_the_plan_is_passed_over():
    both = exporters(spec("a", (Client("server", "x"),), problems=("no",)), spec("b", (Client("server", "y", 1),)))
    assert choose_target("server", PLAN, both).dialect == "b"


def test_a_plan_that_the_client_refuses_is_passed_over():
    refusing = Client("server", "x", check=lambda plan: ("server runs no such thing",))
    both = exporters(spec("a", (refusing,)), spec("b", (Client("server", "y", 1),)))
    assert choose_target("server", PLAN, both).dialect == "b"


def test_where_no_dialect_will_do_the_first_one_says_why():
    both = exporters(
        spec("a", (Client("server", "x"),), problems=("no a",)),
        spec("b", (Client("server", "y", 1),), problems=("no b",)),
    )
    assert choose_target("server", PLAN, both).problems == ("no a",)


def test_an_unknown_target_names_dialects_and_clients():
    known = exporters(spec("a", (Client("server", "x"),)))
    assert target_names(known) == ("a", "server")
    with pytest.raises(UnknownNameError, match=r"named 'sever'. Did you mean 'server'\? Known: a, server"):
        choose_target("sever", PLAN, known)


def test_what_a_model_adds_is_asked_of_client_and_dialect_where_its_files_are_known():
    files = SourceFiles({"model_type": "odd"})
    picky = Client("server", "x", check_source=lambda plan, source: (f"no {source.config['model_type']}",))
    folding = replace(spec("a", (picky,)), notes_source=lambda plan, source: (source.config["model_type"],))
    both = exporters(folding, spec("b", (Client("server", "y", 1),)))
    assert choose_target("server", PLAN, both).dialect == "a"
    assert choose_target("server", PLAN, both, files).dialect == "b"
    assert choose_target("a", PLAN, both, files).notes == ("odd",)
    assert choose_target("a", PLAN, both).notes == ()


def test_what_the_plan_alone_shows_is_said_without_asking_for_more():
    def asked(plan, source):
        raise AssertionError("asked although the plan had a problem")

    client = Client("server", "x", check=lambda plan: ("no",), check_source=asked)
    assert client.problems(PLAN, SourceFiles()) == ("no",)

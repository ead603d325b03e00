"""`mtopt search`: a recipe in a file, a table of budgets, plain data, and refusals that say what to do."""

import json
from dataclasses import replace

import pytest
import yaml

from mtcore.hookspecs import hookimpl
from mtcore.plugins import Registry
from mtcore.testing.toy_blocks import SOURCE, ToyBlocksPlugin, ToyShape, write_toy_blocks


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return f"{SOURCE}{write_toy_blocks(tmp_path_factory.mktemp('toy'), ToyShape(layers=2))}"


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    registry = Registry.load([ToyBlocksPlugin()], discover=False)
    monkeypatch.setattr("mtcore.plugins.default_registry", lambda: registry)


@pytest.fixture
def search(mtopt, source, tmp_path):
    """search("--bits", 6): with two choices, little data, and scores kept in one place."""

    def call(*args, data=("--calib", "some", "--samples", 4, "--length", 16)):
        return mtopt("search", source, "--choices", "nvfp4, fp8", "--statistics", tmp_path / "kept", *data, *args)

    return call


def test_it_writes_a_recipe_and_shows_a_line_a_decision(search, tmp_path):
    out = tmp_path / "mixed.yaml"
    outcome = search("--bits", 6, "-o", out)
    assert outcome.code == 0, outcome.err
    assert yaml.safe_load(out.read_text())["name"] == "searched"
    assert "layers.0.{gate,up}" in outcome.out
    assert str(out) in "".join(outcome.out.split())
    assert "score: 1 batches" in outcome.err


def test_json_has_all_that_was_decided(search):
    data = json.loads(search("--bits", 6, "--json").out)
    assert data["solution"]["bits_per_weight"] <= 6
    assert {decision["choice"] for decision in data["solution"]["decisions"]} <= {"nvfp4", "fp8", "as it is"}
    assert data["recipe"] is None
    assert data["score"] == "fisher"


def test_another_budget_needs_no_data(search):
    search("--bits", 6)
    outcome = search("--bits", 5, data=())
    assert outcome.code == 0, outcome.err
    assert "score:" not in outcome.err


def test_budgets_stand_side_by_side_with_each_choice_alone(search):
    outcome = search("--budgets", "5,6, 7")
    assert [line.split("  ")[0] for line in outcome.out.splitlines()] == [
        "budget",
        "at most 5 bits",
        "at most 6 bits",
        "at most 7 bits",
        "nvfp4 alone",
        "fp8 alone",
    ]


def test_a_size_is_a_budget(search):
    data = json.loads(search("--size", "40KB", "--json").out)
    assert data["solution"]["size_bytes"] <= 40_000


def test_a_target_is_rehearsed_and_becomes_that_of_the_recipe(search, tmp_path):
    outcome = search("--bits", 6, "--to", "toy", "-o", tmp_path / "mixed.yaml")
    assert outcome.code == 0, outcome.err
    assert "toy: " in outcome.out
    assert yaml.safe_load((tmp_path / "mixed.yaml").read_text())["targets"] == ["toy"]


def test_a_mixture_that_a_target_refuses_is_no_recipe_and_says_what_to_do(search, tmp_path, monkeypatch):
    class OneForAll(ToyBlocksPlugin):
        @hookimpl
        def mtcore_exporters(self):
            (toy,) = super().mtcore_exporters()

            def check(plan):
                formats = {slot.format.name for module in plan.quantized for slot in module.slots}
                return ["one format for all"] if len(formats) > 1 else []

            return [replace(toy, check=check)]

    registry = Registry.load([OneForAll()], discover=False)
    monkeypatch.setattr("mtcore.plugins.default_registry", lambda: registry)
    outcome = search("--bits", 6, "--to", "toy", "-o", tmp_path / "mixed.yaml")
    assert outcome.code != 0
    assert not (tmp_path / "mixed.yaml").exists()
    said = " ".join(outcome.out.split())
    assert "No recipe was written: toy refuses together layers." in said
    assert "one format for all; search with --choices nvfp4 or --choices fp8, which it serves alone" in said
    (refusal,) = json.loads(search("--bits", 6, "--to", "toy", "--json", data=()).out)["refusals"]
    assert sorted(refusal["together"].values()) == ["fp8", "nvfp4"]


def test_without_a_directory_scores_lie_beside_the_recipe(mtopt, source, tmp_path):
    data = ("--calib", "some", "--samples", 4, "--length", 16)
    mtopt("search", source, "--choices", "fp8", "--bits", 9, "-o", tmp_path / "mixed.yaml", *data)
    assert list((tmp_path / "mixed.search").glob("scores-fisher-*.json"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "give a budget: --bits or --size"),
        (("--bits", 5, "--size", "1GiB"), "give one"),
        (("--bits", 2), "2 bits a weight cannot be reached with nvfp4, fp8: the least is 4.5"),
        (("--size", "large"), "'large' is no size"),
        (("--budgets", "5,many"), "'many' is no number of bits"),
        (("--bits", 0), "--bits"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(search, args, message):
    outcome = search(*args)
    assert outcome.code != 0
    assert message in " ".join(outcome.err.split())


def test_a_recipe_is_not_replaced_unless_it_is_said(search, tmp_path):
    out = tmp_path / "mixed.yaml"
    out.write_text("mine")
    outcome = search("--bits", 6, "-o", out)
    assert outcome.code != 0
    assert "--force" in outcome.err
    assert out.read_text() == "mine"
    assert search("--bits", 6, "-o", out, "--force").code == 0
    assert out.read_text() != "mine"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("c.txt/x.yaml", "c.txt/x.yaml: cannot be written"),
        ("none/x.yaml", "there is no directory"),
        ("c.txt", "is the calibration data"),
        ("r.yaml", "is a recipe to choose from"),
        ("kept/x", "x: is the directory of --statistics"),
    ],
)
def test_a_recipe_that_cannot_be_written_or_would_take_an_input_is_refused_before_the_search(
    mtopt, source, tmp_path, place, message
):
    (tmp_path / "c.txt").write_text("text")
    (tmp_path / "r.yaml").write_text("rules: [{weight: fp8}]")
    (tmp_path / "kept").mkdir()
    before = sorted(tmp_path.rglob("*"))
    line = (
        "--choices",
        tmp_path / "r.yaml",
        "--calib",
        tmp_path / "c.txt",
        "--statistics",
        tmp_path / "kept" / "x",
    )
    outcome = mtopt("search", source, *line, "--bits", 9, "-o", tmp_path / place, "--force")
    assert outcome.code == 1
    assert message in "".join(outcome.err.splitlines())
    assert ".partial" not in outcome.err
    assert sorted(tmp_path.rglob("*")) == before


def test_scores_that_cannot_be_kept_are_refused_before_the_search(mtopt, source, tmp_path):
    (tmp_path / "file").write_text("")
    for place, message in (("file", "is a file"), ("file/kept", "no directory")):
        line = ("--choices", "fp8", "--calib", "some", "--statistics", tmp_path / place)
        outcome = mtopt("search", source, *line, "--bits", 9)
        assert outcome.code != 0
        assert message in outcome.err

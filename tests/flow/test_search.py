"""A search of a checkpoint: resumed after a kill, solved again without data, and carried out as any recipe."""

import multiprocessing
import os
import signal
from dataclasses import replace
from functools import partial

import pytest
import torch
import yaml

from mtcore.errors import CalibrationError, ModelError, PlanError, RecipeError, StateError, UnknownNameError
from mtcore.flow import DataOptions, quantize_checkpoint, requantize_checkpoint, search_checkpoint
from mtcore.flow.loaded import LoadedModel
from mtcore.hookspecs import hookimpl
from mtcore.opt import AS_IT_IS, ScoreBook
from mtcore.plugins import Registry
from mtcore.testing.toy_blocks import SOURCE, ToyBlocksPlugin, ToyShape, write_toy_blocks

CHOICES = ("nvfp4", "fp8")
DATA = DataOptions(samples=6, length=16, batch_size=2)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return f"{SOURCE}{write_toy_blocks(tmp_path_factory.mktemp('toy'), ToyShape(layers=2))}"


@pytest.fixture(scope="module")
def registry():
    return Registry.load([ToyBlocksPlugin()], discover=False)


@pytest.fixture
def search(source, registry, tmp_path):
    def call(choices=CHOICES, *, statistics=tmp_path / "kept", calib="some", **more):
        return search_checkpoint(
            source, choices, statistics=statistics, calib=calib, data=DATA, registry=registry, **more
        )

    return call


def test_the_recipe_gives_every_layer_what_was_chosen(search, source, registry, tmp_path):
    found = search()
    solution = found.searcher.solve(bits=6)
    assert len(set(solution.chosen)) > 1
    path = tmp_path / "mixed.yaml"
    path.write_text(found.recipe(solution))
    plan = quantize_checkpoint(
        source, path, tmp_path / "out", calib="some", data=DATA, dialect="toy", registry=registry
    ).plan
    assert not plan.errors
    formats = {"nvfp4": "nvfp4", "fp8": "fp8", AS_IT_IS: None}
    for decision, choice in zip(solution.decisions, solution.chosen, strict=True):
        for name in decision.modules:
            slots = {slot.slot: slot.format.name for slot in plan[name].slots}
            assert set(slots.values()) == ({formats[choice]} if formats[choice] else set()), name
            assert set(slots) == ({"weight", "input"} if formats[choice] else set()), name


def test_the_recipe_leaves_what_all_choices_leave(search, registry):
    found = search()
    data = yaml.safe_load(found.recipe(found.searcher.solve(bits=6)))
    left = next(rule for rule in data["rules"] if "embed" in str(rule["modules"]))
    assert left["skip"] is True
    assert data["algorithm"] == [{"method": "max"}]


def test_another_budget_runs_no_data_and_needs_none(search, monkeypatch):
    first = search().searcher.solve(bits=6)
    monkeypatch.setattr("mtcore.quantization.choices.quantized_twin", None)  # whoever scores would call it
    found = search(calib=None)
    assert found.searcher.solve(bits=6) == first
    assert found.searcher.solve(bits=5).bits_per_weight <= 5
    assert search().searcher.solve(bits=6) == first


def test_each_searcher_scores_for_itself(search):
    by_loss, by_error = (search(score=name).searcher.scores for name in ("fisher", "output_error"))
    assert by_loss.keys() == by_error.keys()
    assert by_loss != by_error


def _search_and_die(source, folder, after):
    """Searches, and is killed once that many batches are kept."""
    add = ScoreBook.add

    def add_and_die(self, scores, of):
        add(self, scores, of)
        if self.batches == after:
            os.kill(os.getpid(), signal.SIGKILL)

    ScoreBook.add = add_and_die
    registry = Registry.load([ToyBlocksPlugin()], discover=False)
    search_checkpoint(source, CHOICES, statistics=folder, calib="some", data=DATA, registry=registry)


@pytest.mark.parametrize("after", [1, 2])
def test_a_killed_search_goes_on_after_its_last_batch_and_ends_with_the_same_bytes(
    search, source, tmp_path, monkeypatch, after
):
    folder = tmp_path / "killed"
    process = multiprocessing.get_context("spawn").Process(target=_search_and_die, args=(source, folder, after))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    counted = []
    add = ScoreBook.add
    monkeypatch.setattr(ScoreBook, "add", lambda self, *more: (counted.append(self.batches), add(self, *more)))
    search(statistics=folder)
    assert counted == list(range(after, 3))
    search(statistics=tmp_path / "unbroken")
    (killed,), (unbroken,) = (list((tmp_path / name).glob("scores-*.json")) for name in ("killed", "unbroken"))
    assert killed.name == unbroken.name
    assert killed.read_bytes() == unbroken.read_bytes()


def test_scores_of_other_data_are_refused(search):
    search()
    with pytest.raises(StateError, match="other data"):
        search(calib="others")


def test_without_scores_and_data_it_says_what_to_do(search):
    with pytest.raises(CalibrationError, match=r"of the scores of nvfp4, fp8 by fisher, none lie there.*--calib"):
        search(calib=None)


def test_the_model_computes_in_its_own_type_afterwards(search):
    assert {p.dtype for p in search().loaded.model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("choices", "error", "message"),
    [
        ((), RecipeError, "no recipe is named"),
        (("nvfp4", "nvfp4"), RecipeError, "two choices are named 'nvfp4'"),
        (("nvfp5",), RecipeError, "Did you mean 'nvfp4'"),
        ((AS_IT_IS,), RecipeError, "no recipe named 'as it is'"),
        (("nvfp4", "fp8_best"), RecipeError, "calibrated by other algorithms .*--set algorithm=max"),
        (({"rules": [{"modules": "*nothing*", "weight": "fp8"}]},), PlanError, "matches no quantizer"),
    ],
)
def test_choices_that_cannot_be_mixed_are_refused_before_any_data_run(search, choices, error, message):
    with pytest.raises(error, match=message):
        search(choices)


def test_an_unknown_searcher_or_target_is_named(search):
    with pytest.raises(UnknownNameError, match=r"no searcher named 'fischer'\. Did you mean 'fisher'"):
        search(score="fischer")
    with pytest.raises(UnknownNameError, match=r"no target named 'toys'\. Did you mean 'toy'"):
        search(targets=["toys"])


class Refusing(ToyBlocksPlugin):
    """A dialect that takes FP8 everywhere and NVFP4 in gates alone."""

    @hookimpl
    def mtcore_exporters(self):
        (toy,) = super().mtcore_exporters()

        def check(plan):
            names = [m.name for m in plan.quantized for s in m.slots if s.format.name == "nvfp4"]
            return [f"{name}: picky has no nvfp4 here" for name in names if "gate" not in name and "up" not in name]

        return [toy, replace(toy, name="picky", check=check)]


def test_a_target_takes_away_the_choices_that_it_refuses(source, tmp_path):
    registry = Registry.load([Refusing()], discover=False)
    found = search_checkpoint(
        source, CHOICES, statistics=tmp_path, calib="some", data=DATA, registry=registry, targets=["picky"]
    )
    for decision in found.searcher.decisions:
        gates = "gate" in decision.name
        assert ("nvfp4" in decision.bits) == gates
        assert gates or "picky has no nvfp4 here" in decision.refused["nvfp4"]
    solution = found.searcher.solve(bits=8)
    assert yaml.safe_load(found.recipe(solution))["targets"] == ["picky"]
    (rehearsal,) = found.rehearse(solution)
    assert not rehearsal.problems


def test_a_model_without_a_loss_is_refused_before_the_data_run(source, tmp_path):
    class NoLanguage(ToyBlocksPlugin):
        @hookimpl
        def mtcore_load_model(self, source):
            return replace(super().mtcore_load_model(source), predicts_next=False)

    registry = Registry.load([NoLanguage()], discover=False)
    call = partial(
        search_checkpoint, source, CHOICES, statistics=tmp_path, calib="some", data=DATA, registry=registry
    )
    with pytest.raises(ModelError, match=r"ToyBlocks is no causal language model.*--score output_error"):
        call()
    assert call(score="output_error").searcher.scores


def test_a_model_that_is_quantized_is_refused(tmp_path):
    class Quantized(ToyBlocksPlugin):
        @hookimpl
        def mtcore_load_model(self, source):
            return LoadedModel(torch.nn.Linear(4, 4), source, quantized_as="gptq")

    registry = Registry.load([Quantized()], discover=False)
    with pytest.raises(ModelError, match="quantized already"):
        search_checkpoint("x", CHOICES, statistics=tmp_path, calib=[1], registry=registry)


def test_what_the_data_told_a_search_serves_the_run_of_its_recipe(search, source, registry, tmp_path):
    found = search()
    path = tmp_path / "mixed.yaml"
    path.write_text(found.recipe(found.searcher.solve(bits=6)))
    more = {"dialect": "toy", "registry": registry}
    quantize_checkpoint(source, path, tmp_path / "with", calib="some", data=DATA, **more)
    requantize_checkpoint(source, path, tmp_path / "without", statistics=tmp_path / "kept", **more)
    files = sorted(file.name for file in (tmp_path / "with").iterdir())
    for name in files:
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes(), name


def test_it_is_started_without_torchrun(search, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CalibrationError, match="without torchrun"):
        search()

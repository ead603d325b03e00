"""Statistics that a run block by block keeps are those of a run on the whole model, and decide other recipes."""

import pytest
import torch

from mtcore.calibration.statistics import StatisticsStore
from mtcore.errors import CalibrationError, StateError
from mtcore.flow import LayerwiseOptions
from mtcore.recipe import load_config


def assert_same(one, two):
    assert one.known.keys() == two.known.keys()
    for site, statistics in one.known.items():
        other = two.known[site]
        for name, value in vars(statistics).items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, getattr(other, name)), (site, name)
            elif name == "block_counts":
                assert all(torch.equal(counts, other.block_counts[width]) for width, counts in value.items())
            else:
                assert value == getattr(other, name), (site, name)


@pytest.mark.parametrize("products", [False, True])
@pytest.mark.parametrize("recipe", ["fp8", "int8_weight_only"])
def test_they_are_those_of_the_whole_model_bit_for_bit(quantize, content, tmp_path, recipe, products):
    for out, options in (("whole", None), ("blocks", LayerwiseOptions())):
        quantize(recipe, tmp_path / out, options, statistics=tmp_path / f"{out}-kept", products=products)
    assert content(tmp_path / "blocks") == content(tmp_path / "whole")
    one, two = (StatisticsStore.open(tmp_path / f"{out}-kept", {}) for out in ("whole", "blocks"))
    assert one.key == two.key
    assert_same(one, two)
    assert all(statistics.gram is not None for statistics in two.known.values()) == products


def test_a_recipe_that_folds_leaves_statistics_of_the_weights_as_they_were(quantize, registry, tmp_path):
    folding = load_config(
        "int8_static", formats=registry.formats, recipes=registry.recipes, overrides=["algorithm=smoothquant"]
    )
    for out, options in (("whole", None), ("blocks", LayerwiseOptions())):
        quantize(folding, tmp_path / out, options, statistics=tmp_path / f"{out}-kept")
    quantize("int8_static", tmp_path / "plain", None, statistics=tmp_path / "plain-kept")
    kept = [StatisticsStore.open(tmp_path / f"{out}-kept", {}) for out in ("plain", "whole", "blocks")]
    assert_same(kept[0], kept[1])
    assert_same(kept[0], kept[2])


def test_another_recipe_is_decided_from_them_without_data(quantize, content, tmp_path):
    quantize("fp8", tmp_path / "first", statistics=tmp_path / "kept")
    quantize("int8_static", tmp_path / "again", None, statistics=tmp_path / "kept", calib=None)
    quantize("int8_static", tmp_path / "direct", None)
    assert content(tmp_path / "again") == content(tmp_path / "direct")


def test_a_second_run_block_by_block_reads_them_and_changes_nothing(quantize, content, tmp_path):
    quantize("fp8", tmp_path / "first", statistics=tmp_path / "kept")
    kept = content(tmp_path / "kept")
    quantize("int8_static", tmp_path / "second", statistics=tmp_path / "kept")
    quantize("int8_static", tmp_path / "direct", None)
    assert content(tmp_path / "second") == content(tmp_path / "direct")
    assert content(tmp_path / "kept") == kept


def test_a_run_that_goes_on_with_another_directory_is_refused(quantize, tmp_path, monkeypatch):
    finish, calls = StatisticsStore.add, []

    def add(store, found):
        if calls:
            raise StateError("the disk is full")
        calls.append(None)
        finish(store, found)

    monkeypatch.setattr(StatisticsStore, "add", add)
    with pytest.raises(StateError, match="the disk is full"):
        quantize("fp8", tmp_path / "out", statistics=tmp_path / "kept")
    monkeypatch.setattr(StatisticsStore, "add", finish)
    with pytest.raises(StateError, match="another dialect, option or version"):
        quantize("fp8", tmp_path / "out", statistics=tmp_path / "elsewhere")
    quantize("fp8", tmp_path / "out", statistics=tmp_path / "kept")
    assert len(StatisticsStore.open(tmp_path / "kept", {}).known) == 10


@pytest.mark.parametrize(
    ("layerwise", "more", "reason"),
    [
        (LayerwiseOptions(propagate=True), {}, "leave out --propagate"),
        (LayerwiseOptions(), {"calib": None}, "--calib"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_written(quantize, tmp_path, layerwise, more, reason):
    with pytest.raises(CalibrationError, match=reason):
        quantize("fp8", tmp_path / "out", layerwise, statistics=tmp_path / "kept", **more)
    assert not list(tmp_path.iterdir())

"""What does not go together, is misspelt or in the way is told before anything is loaded."""

from pathlib import Path

import pytest

from mtcore.errors import CalibrationError, ExportError, RecipeError, UnknownNameError
from mtcore.flow import LayerwiseOptions
from mtcore.flow.asked import Asked
from mtcore.plugins import Registry
from mtcore.testing.toy_blocks import ToyBlocksPlugin

BLOCKS, KEPT = LayerwiseOptions(), Path("kept")


@pytest.fixture(scope="module")
def registry():
    return Registry.load([ToyBlocksPlugin()], discover=False)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"layerwise": LayerwiseOptions(propagate=True), "calib": "some"}, "leave out --propagate"),
        ({"layerwise": BLOCKS}, "give --calib beside --statistics, or leave out --layerwise"),
    ],
)
def test_a_run_block_by_block_keeps_statistics_of_the_original_model_and_of_data(more, message):
    with pytest.raises(CalibrationError, match=message):
        Asked(Path("out"), statistics=KEPT, **more).check_way()


def test_one_process_goes_block_by_block(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CalibrationError, match="--layerwise works in one process; start it without torchrun"):
        Asked(Path("out"), layerwise=BLOCKS).check_way()
    Asked(Path("out")).check_way()


@pytest.mark.parametrize(
    "asked",
    [
        Asked(Path("out")),
        Asked(Path("out"), statistics=KEPT),
        Asked(Path("out"), layerwise=BLOCKS),
        Asked(Path("out"), "some", layerwise=BLOCKS, statistics=KEPT),
    ],
    ids=["alone", "statistics", "blocks", "blocks with statistics of data"],
)
def test_what_goes_together_is_no_error(asked):
    asked.check_way()


@pytest.mark.parametrize(
    ("recipe", "dialect", "nearest"),
    [
        ("nvpf4", None, "nvfp4"),
        ({"rules": [{"modules": "*", "weight": "fp8"}], "algorithm": "gqtp"}, None, "gptq"),
        ("fp8", "artefact", "artifact"),
    ],
    ids=["recipe", "algorithm", "dialect"],
)
def test_a_misspelt_word_is_told_with_the_nearest_one(registry, tmp_path, recipe, dialect, nearest):
    with pytest.raises((UnknownNameError, RecipeError), match=nearest):
        Asked(tmp_path / "out", dialect=dialect).understood(recipe, registry)


def test_a_directory_in_the_way_is_told_unless_it_may_be_replaced(registry, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ExportError):
        Asked(tmp_path, dialect="artifact").understood("fp8", registry)
    config, goal = Asked(tmp_path, dialect="artifact", overwrite=True).understood("fp8", registry)
    assert (config.name, dict(goal.places)) == ("fp8", {"artifact": tmp_path})

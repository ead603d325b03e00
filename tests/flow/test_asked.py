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


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory to work in, with inputs of a run in directories that look like checkpoints."""
    for name in ("par/src", "docs", "recipes"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("par/config.json", "par/src/config.json", "docs/config.json", "recipes/config.json", "docs/c.txt"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "recipes" / "r.yaml").write_text("rules: [{weight: fp8}]")
    (tmp_path / "stats").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("out", "more", "message"),
    [
        ("par", {}, r"par: holds the model \(par/src\)"),
        ("par/src", {}, "par/src: is the model"),
        ("par/src/../../par/src", {}, "is the model"),
        ("par/src", {"layerwise": BLOCKS}, "is the model"),
        ("docs", {"calib": "docs/c.txt"}, r"holds the calibration data \(docs/c.txt\)"),
        ("docs", {"calib": "docs"}, "is the calibration data"),
        ("stats", {"statistics": Path("stats")}, "is the directory of --statistics"),
        ("new", {"statistics": Path("new")}, "is the directory of --statistics"),
        ("new", {"statistics": Path("new/kept")}, "holds the directory of --statistics"),
        ("recipes", {"recipe": "recipes/r.yaml"}, r"holds the recipe \(recipes/r.yaml\)"),
        ("recipes", {"inputs": [Path("recipes/r.yaml")]}, r"holds an input \(recipes/r.yaml\)"),
    ],
)
def test_an_output_that_would_take_what_the_run_reads_is_refused(here, registry, overwrite, out, more, message):
    more = dict(more)
    recipe = more.pop("recipe", "fp8")
    asked = Asked(Path(out), source="with-code:par/src", dialect="artifact", overwrite=overwrite, **more)
    with pytest.raises(ExportError, match=message):
        asked.understood(recipe, registry)


def test_a_run_block_by_block_does_not_work_in_the_model(here, registry):
    (here / "out.run").mkdir()
    with pytest.raises(ExportError, match=r"out\.run: is the model"):
        Asked(Path("out"), source="out.run", dialect="artifact", layerwise=BLOCKS).understood("fp8", registry)


@pytest.mark.parametrize("targets", [[], ["toy", "artifact"]])
def test_an_output_in_the_model_or_several_beside_it_are_no_error(here, registry, targets):
    out, dialect = (Path("par"), None) if targets else (Path("par/src/quantized"), "artifact")
    recipe = {"rules": [{"weight": "fp8"}], **({"targets": targets} if targets else {})}
    Asked(out, "docs", source="par/src", dialect=dialect, overwrite=True).understood(recipe, registry)


@pytest.mark.parametrize(
    ("out", "statistics", "message"),
    [
        ("docs/c.txt/out", None, "cannot be written, .*c.txt is a file and no directory"),
        (".", None, "holds the directory that you work in"),
        ("out", "docs/c.txt/kept", "c.txt is a file and no directory"),
        ("out", "recipes/r.yaml", "r.yaml: is a file; name a directory for the statistics"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_anything_is_loaded(here, registry, out, statistics, message):
    kept = None if statistics is None else Path(statistics)
    with pytest.raises(ExportError, match=message):
        Asked(Path(out), "some", "artifact", overwrite=True, statistics=kept).understood("fp8", registry)

"""Another recipe from kept statistics: no forward, and the bytes of a run on the data."""

import functools
import json

import pytest
import torch
from torch import nn

import mtcore.flow.under_way as run_module
import mtopt_tinylm
from mtcore.cli.main import run
from mtcore.errors import CalibrationError, StateError
from mtcore.flow import DataOptions, load_checkpoint, quantize_checkpoint, requantize_checkpoint
from mtcore.plugins import default_registry
from mtcore.recipe import load_config

MODEL = str(mtopt_tinylm.checkpoint_dir())
TEXT = str(mtopt_tinylm.calibration_file())
DATA = DataOptions(samples=4, length=64, batch_size=1)
RECIPES = {
    "max": ("nvfp4", []),
    "percentile": ("int8_static", ["algorithm=percentile"]),
    "entropy": ("int8_static", ["algorithm=entropy"]),
    "mse": ("fp8", ["algorithm=mse"]),
    "headroom": ("nvfp4", ["algorithm=headroom"]),
    "smoothquant": ("int8", ["algorithm=smoothquant"]),
    "awq": ("nvfp4_weight_only", ["algorithm={method: awq, grid: 4, sample: 256}"]),
}


def config(name):
    registry = default_registry()
    recipe, changes = RECIPES[name]
    return load_config(recipe, formats=registry.formats, recipes=registry.recipes, overrides=changes)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Statistics that a run with the recipe fp8 left."""
    folder = tmp_path_factory.mktemp("kept")
    quantize_checkpoint(MODEL, "fp8", folder / "fp8", calib=TEXT, data=DATA, statistics=folder / "statistics")
    return folder / "statistics"


@pytest.fixture
def forwards(monkeypatch):
    """The modules that were called while a plan was carried out."""
    calls = []
    plain = nn.Module._call_impl

    def counted(module, *args, **kwargs):
        calls.append(type(module).__name__)
        return plain(module, *args, **kwargs)

    carry_out = run_module.apply_plan

    def carried_out(*args, **kwargs):
        calls.clear()  # what ran before belongs to the plan, which proves the folds of a recipe that has some
        return carry_out(*args, **kwargs)

    monkeypatch.setattr(nn.Module, "__call__", counted)
    monkeypatch.setattr(run_module, "apply_plan", carried_out)
    return calls


@pytest.mark.parametrize("name", RECIPES)
def test_requantizing_gives_the_bytes_of_a_run_on_the_data_and_runs_no_forward(name, kept, forwards, tmp_path):
    requantize_checkpoint(MODEL, config(name), tmp_path / "again", statistics=kept)
    models = [call for call in forwards if "LM" in call or "Attention" in call or "DecoderLayer" in call]
    assert not models
    quantize_checkpoint(MODEL, config(name), tmp_path / "direct", calib=TEXT, data=DATA)
    assert forwards
    assert files(tmp_path / "again") == files(tmp_path / "direct")


def test_a_recipe_that_runs_the_data_itself_is_refused_by_name(kept, tmp_path):
    with pytest.raises(CalibrationError, match="gptq runs the data itself"):
        requantize_checkpoint(MODEL, "nvfp4_weight_only_best", tmp_path / "out", statistics=kept)
    with pytest.raises(CalibrationError, match=r"autoround runs the data itself.*or choose another algorithm$"):
        requantize_checkpoint(MODEL, "nvfp4_best", tmp_path / "out", statistics=kept)
    assert not (tmp_path / "out").exists()


def test_what_was_not_kept_is_named_and_a_run_on_the_data_adds_it(kept, tmp_path):
    recipe = load_config(
        "nvfp4_weight_only",
        formats=default_registry().formats,
        recipes=default_registry().recipes,
        overrides=["algorithm={method: gptq, sequential: none}"],
    )
    with pytest.raises(CalibrationError, match=r"products Σ x xᵀ of .*layers\.0\.\S+\.input.*not hold them"):
        requantize_checkpoint(MODEL, recipe, tmp_path / "out", statistics=kept)
    quantize_checkpoint(MODEL, recipe, tmp_path / "direct", calib=TEXT, data=DATA, statistics=kept)
    requantize_checkpoint(MODEL, recipe, tmp_path / "out", statistics=kept)
    assert files(tmp_path / "out") == files(tmp_path / "direct")


def test_products_are_kept_where_they_are_asked_for(kept, tmp_path):
    changes = ["algorithm={method: gptq, sequential: none}"]
    registry = default_registry()
    recipe = load_config("int8", formats=registry.formats, recipes=registry.recipes, overrides=changes)
    folder = tmp_path / "statistics"
    for products in (False, True):  # also where all that the recipe asks for lies there already
        quantize_checkpoint(
            *(MODEL, "fp8", tmp_path / f"fp8-{products}"),
            calib=TEXT,
            data=DATA,
            statistics=folder,
            products=products,
        )
    requantize_checkpoint(MODEL, recipe, tmp_path / "out", statistics=folder)
    quantize_checkpoint(MODEL, recipe, tmp_path / "direct", calib=TEXT, data=DATA)
    assert files(tmp_path / "out") == files(tmp_path / "direct")
    requantize_checkpoint(MODEL, config("percentile"), tmp_path / "cut", statistics=folder)  # is there still


def test_other_data_or_weights_are_refused(kept, tmp_path):
    other = DataOptions(samples=2, length=64)
    with pytest.raises(StateError, match="statistics of other data"):
        quantize_checkpoint(MODEL, "fp8", tmp_path / "out", calib=TEXT, data=other, statistics=kept)
    with pytest.raises(StateError, match="no statistics lie there"):
        requantize_checkpoint(MODEL, "fp8", tmp_path / "out", statistics=tmp_path / "nothing")
    loaded = load_checkpoint(MODEL)
    next(loaded.model.parameters()).data[0, 0] += 1
    registry = default_registry()
    changed = _WithModel(registry, loaded)
    with pytest.raises(StateError, match="statistics of other weights"):
        requantize_checkpoint(MODEL, "fp8", tmp_path / "out", statistics=kept, registry=changed)


class _WithModel:
    """A registry whose loader gives this model."""

    def __init__(self, registry, loaded):
        self._registry, self._loaded = registry, loaded

    def load_model(self, source):
        return self._loaded

    def __getattr__(self, name):
        return getattr(self._registry, name)


def test_an_exception_in_the_data_keeps_whole_batches_and_the_next_run_goes_on_after_them(tmp_path, monkeypatch):
    statistics, calls = tmp_path / "statistics", []
    plain = type(load_checkpoint(MODEL).model).forward

    @functools.wraps(plain)  # the loader looks at what a forward takes
    def fails(model, *args, **kwargs):
        calls.append(1)
        if len(calls) == fails.at:
            raise TimeoutError("the device was taken away")
        return plain(model, *args, **kwargs)

    fails.at = 4
    monkeypatch.setattr(type(load_checkpoint(MODEL).model), "forward", fails)
    with pytest.raises(TimeoutError):  # the trace is the first forward
        quantize_checkpoint(MODEL, "fp8", tmp_path / "out", calib=TEXT, data=DATA, statistics=statistics)
    assert json.loads((statistics / "unfinished.json").read_text())["batches"] == 2
    fails.at, calls[:] = 0, []
    quantize_checkpoint(MODEL, "fp8", tmp_path / "out", calib=TEXT, data=DATA, statistics=statistics)
    assert len(calls) == 2  # no trace, and two of four batches
    quantize_checkpoint(MODEL, "fp8", tmp_path / "direct", calib=TEXT, data=DATA)
    assert files(tmp_path / "out") == files(tmp_path / "direct")


def test_nan_activations_stop_with_the_layers_name_and_keep_no_poisoned_statistics(tmp_path):
    loaded = load_checkpoint(MODEL)
    name = "model.layers.1.mlp.up_proj"
    loaded.model.get_submodule(name).weight.data[0, 0] = torch.nan
    registry = _WithModel(default_registry(), loaded)
    with pytest.raises(CalibrationError, match=r"first in model\.layers\.1\.mlp\.down_proj\.input"):
        quantize_checkpoint(MODEL, "fp8", tmp_path / "out", calib=TEXT, data=DATA, registry=registry,
                            statistics=tmp_path / "s")  # fmt: skip
    assert not (tmp_path / "s" / "unfinished.json").exists()
    assert not (tmp_path / "out").exists()


def test_the_command_requantizes(kept, tmp_path, capsys):
    line = [
        "requantize",
        MODEL,
        "--recipe",
        "nvfp4",
        "--statistics",
        str(kept),
        "-o",
        str(tmp_path / "o"),
        "--json",
    ]
    assert run(line) == 0
    assert json.loads(capsys.readouterr().out)["directory"] == str(tmp_path / "o")


def test_a_run_block_by_block_does_not_decide_from_statistics_alone(tmp_path, capsys):
    line = ["quantize", MODEL, "--recipe", "fp8", "--layerwise", "--statistics", "s", "-o", str(tmp_path / "o")]
    assert run(line) == 1
    assert "give --calib beside --statistics" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()

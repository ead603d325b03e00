"""A saved state restores exactly, refuses what does not fit by name, and survives any damage with a clear error."""

import copy
import json
import random
from dataclasses import replace

import pytest
import torch
from torch import nn

from mtcore.calibration import as_forward_loop, resolve_algorithms, run_algorithms
from mtcore.calibration.algorithms.max import MAX
from mtcore.errors import ExportError, StateError
from mtcore.plan import make_plan
from mtcore.quantization.attached import Quantized, attach, is_quantized
from mtcore.quantization.convert import convert
from mtcore.quantization.state import STATE_FILE, TENSOR_FILE, load_state, save_state
from mtcore.recipe.setting import AlgorithmStep
from mtcore.trace import analyze

RULES = {"*weight_quantizer": "nvfp4", "*input_quantizer": "fp8"}


@pytest.fixture
def fresh(model):
    return copy.deepcopy(model)


@pytest.fixture
def quantized(fresh, model, batch, specs, make_config):
    plan = make_plan(model, make_config(RULES), specs)
    root, journal = convert(model, plan, specs)
    run_algorithms(root, plan, resolve_algorithms([AlgorithmStep("max")], {"max": MAX}), as_forward_loop([batch]))
    attach(root, Quantized(plan, journal))
    return root


@pytest.fixture
def saved(quantized, tmp_path):
    quantized[0].gate.input_quantizer.disable()
    save_state(quantized, tmp_path / "state")
    return tmp_path / "state"


def randomised(model):
    for parameter in model.parameters():
        parameter.data.normal_()
    return model


def test_a_fresh_model_becomes_the_saved_one(saved, quantized, fresh, batch, specs):
    restored = load_state(saved, randomised(fresh), specs)
    assert torch.equal(restored(batch), quantized(batch))
    assert not restored[0].gate.input_quantizer.enabled
    assert is_quantized(restored)


def test_a_model_on_meta_becomes_one_whose_modules_share_scales(fresh, model, batch, specs, make_config, tmp_path):
    config = make_config({"*weight_quantizer": "nvfp4", "*input_quantizer": "nvfp4"})
    plan = make_plan(model, config, specs, analyze(model, batch))
    assert plan.groups
    root, journal = convert(model, plan, specs)
    run_algorithms(root, plan, resolve_algorithms([AlgorithmStep("max")], {"max": MAX}), as_forward_loop([batch]))
    attach(root, Quantized(plan, journal))
    save_state(root, tmp_path / "state")
    restored = load_state(tmp_path / "state", fresh.to("meta"), specs)
    assert torch.equal(restored(batch), root(batch))


def test_a_constant_amax_is_saved_and_comes_back_as_one(fresh, model, batch, specs, make_config, tmp_path):
    weights, inputs = make_config(RULES).rules
    rules = (weights, replace(inputs, setting=replace(inputs.setting, amax=448.0)))
    plan = make_plan(model, replace(make_config(RULES), rules=rules), specs)
    root, journal = convert(model, plan, specs)
    attach(root, Quantized(plan, journal))
    save_state(root, tmp_path / "state")
    restored = load_state(tmp_path / "state", fresh.to("meta"), specs)
    assert restored[0].gate.input_quantizer.constant_amax == 448.0
    assert torch.equal(restored(batch), root(batch))


def test_a_model_on_meta_becomes_the_saved_one(saved, quantized, fresh, batch, specs):
    restored = load_state(saved, fresh.to("meta"), specs)
    assert torch.equal(restored(batch), quantized(batch))


def test_no_file_is_a_pickle(saved):
    assert sorted(path.name for path in saved.iterdir()) == [STATE_FILE, TENSOR_FILE]
    json.loads((saved / STATE_FILE).read_text())


def test_tied_tensors_stay_tied_also_from_meta(tmp_path, specs, make_config):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.body, self.head = nn.Embedding(8, 16), nn.Linear(16, 16), nn.Linear(16, 8, bias=False)
            self.head.weight = self.embed.weight

    model = Tied()
    plan = make_plan(model, make_config({"*weight_quantizer": "fp8"}, max_unquantized=1.0), specs)
    attach(model, Quantized(plan, convert(model, plan, specs)[1]))
    save_state(model, tmp_path / "state")
    restored = load_state(tmp_path / "state", Tied().to("meta"), specs)
    assert restored.head.weight is restored.embed.weight
    assert torch.equal(restored.head.weight, model.head.weight)


def test_a_model_of_another_shape_is_refused_by_name_and_left_as_it_was(saved, block_type, specs):
    other = nn.Sequential(block_type(), block_type(), nn.Linear(32, 11))
    before = [id(module) for module in other.modules()]
    with pytest.raises(StateError, match=r"2\.weight: \[10, 32\] in the file, \[11, 32\] in the model"):
        load_state(saved, other, specs)
    assert [id(module) for module in other.modules()] == before


def test_a_model_with_other_modules_is_refused_by_name(saved, block_type, specs):
    with pytest.raises(StateError, match=r"1\.gate"):
        load_state(saved, nn.Sequential(block_type()), specs)


def test_an_unquantized_model_is_not_saved_and_a_quantized_one_not_loaded_onto(
    saved, quantized, fresh, specs, tmp_path
):
    with pytest.raises(StateError, match="was not quantized"):
        save_state(fresh, tmp_path / "no")
    with pytest.raises(StateError, match="quantized already"):
        load_state(saved, quantized, specs)


def test_an_existing_directory_is_not_overwritten(saved, quantized):
    with pytest.raises(ExportError, match="exists already"):
        save_state(quantized, saved)
    save_state(quantized, saved, overwrite=True)


def test_a_newer_version_is_refused_with_advice(saved, fresh, specs):
    path = saved / STATE_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    with pytest.raises(StateError, match="version 99 is newer"):
        load_state(saved, fresh, specs)


@pytest.mark.parametrize("name", [STATE_FILE, TENSOR_FILE])
def test_a_missing_file_is_named(saved, fresh, specs, name):
    (saved / name).unlink()
    with pytest.raises(StateError, match=name):
        load_state(saved, fresh, specs)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to four bytes changed, removed or added, or the file cut."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(changed)) if changed else 0
        match rng.randrange(4):
            case 0 if changed:
                changed[place] = rng.randrange(256)
            case 1 if changed:
                del changed[place : place + rng.randint(1, 8)]
            case 2:
                changed[place:place] = rng.randbytes(rng.randint(1, 8))
            case _:
                changed = changed[: max(place, 1)]
    return bytes(changed)


@pytest.mark.parametrize("name", [STATE_FILE, TENSOR_FILE])
def test_5000_mutated_files_give_a_clear_error_or_a_correct_load(tmp_path, name, specs, make_config):
    model = nn.Sequential(nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 2))
    fresh = copy.deepcopy(model)
    plan = make_plan(model, make_config({"0.weight_quantizer": "nvfp4"}, max_unquantized=1.0), specs)
    attach(model, Quantized(plan, convert(model, plan, specs)[1]))
    save_state(model, tmp_path / "state")
    path = tmp_path / "state" / name
    original, rng, x = path.read_bytes(), random.Random(0), torch.randn(3, 16)
    expected, plain, refused = model(x), fresh(x), 0
    for _ in range(5000):
        path.write_bytes(mutate(original, rng))
        target = copy.deepcopy(fresh)
        try:
            assert torch.equal(load_state(tmp_path / "state", target, specs)(x), expected)
        except StateError:
            refused += 1
            assert torch.equal(target(x), plain)
    assert refused > 4000

"""One run of the data collects all that is wanted, once for each value, and stops on bad data by name."""

import pytest
import torch
from torch import nn

from mtcore.calibration import as_forward_loop
from mtcore.calibration.statistics import AMAX, Gathering, Needs, StatisticsStore, Unfinished, gather
from mtcore.errors import CalibrationError
from mtcore.plan import make_plan
from mtcore.quantization.convert import convert
from mtcore.trace import analyze


@pytest.fixture
def case(model, batch, specs, make_config):
    plan = make_plan(model, make_config({"*weight_quantizer": "nvfp4", "*input_quantizer": "nvfp4"}), specs,
                     analyze(model, batch))  # fmt: skip
    convert(model, plan, specs)
    return model, plan


INPUTS = {(f"{block}.{layer}", "input"): AMAX for block in (0, 1) for layer in ("gate", "up", "down")}


def test_layers_that_read_one_value_share_one_collector(case, batch):
    model, plan = case
    gathering = Gathering(model, INPUTS, plan.shared_inputs)
    with gathering.running():
        model(batch)
    found = gathering.results()
    assert found["0.gate", "input"] is found["0.up", "input"]
    assert found["0.gate", "input"] is not found["0.down", "input"]
    watching = [name for name, module in model.named_modules() if getattr(module, "observer", None) is not None]
    assert not watching


def test_what_is_seen_is_the_unquantized_value(case, batch):
    model, plan = case
    seen = []
    model[1].down.register_forward_pre_hook(lambda _, args: seen.append(args[0].abs().amax(0)))
    found = gather(model, as_forward_loop([batch]), INPUTS, plan.shared_inputs)
    assert torch.equal(found["1.down", "input"].amax, seen[0])


def test_a_plain_module_shows_its_input(model, batch):
    found = gather(model, as_forward_loop([batch]), {("2", "input"): Needs(sample=100)})
    assert found["2", "input"].sample.shape == (6, 32)
    with pytest.raises(CalibrationError, match=r"2\.output: a plain Linear shows nothing but its input"):
        gather(model, as_forward_loop([batch]), {("2", "output"): AMAX})


def test_the_model_runs_once_a_batch(case, batch):
    model, plan = case
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    gather(model, as_forward_loop([batch] * 3), INPUTS, plan.shared_inputs)
    assert len(calls) == 3


def test_nan_stops_in_an_early_batch_with_the_first_layer_in_the_order_of_the_forward(case, batch):
    model, plan = case
    backwards = dict(reversed(INPUTS.items()))
    batches = [batch, batch.clone().fill_(torch.nan), *[batch] * 20]
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(
        CalibrationError, match=r"first in 0\.(gate|up)\.input \(6 tensors in all, batches 2 to 8\)"
    ):
        gather(model, as_forward_loop(batches), backwards, plan.shared_inputs)
    assert len(calls) == 8


def test_an_exception_in_the_loop_goes_through_and_says_where_it_stopped(case, batch):
    model, plan = case

    def loop(root):
        root(batch)
        raise TimeoutError("the loader gave up")

    with pytest.raises(TimeoutError) as caught:
        gather(model, loop, INPUTS, plan.shared_inputs)
    assert caught.value.__notes__ == ["calibration stopped in batch 2"]
    assert all(getattr(module, "observer", None) is None for module in model.modules())


def test_an_exception_inside_the_model_names_the_last_layer_that_was_reached(case, batch):
    model, plan = case

    class Broken(nn.Module):
        def forward(self, x):
            raise ValueError("a bug")

    model[1].down.forward = Broken().forward
    with pytest.raises(ValueError, match="a bug") as caught:
        gather(model, as_forward_loop([batch]), INPUTS, plan.shared_inputs)
    assert caught.value.__notes__ == ["calibration stopped in batch 1, after 1.gate.input"]


@pytest.mark.parametrize("stop", [1, 3, 17])
def test_what_was_kept_between_two_batches_is_gone_on_from_with_the_same_bits(case, stop, tmp_path):
    model, plan = case
    batches = [torch.randn(6, 32, generator=torch.Generator().manual_seed(seed)) for seed in range(20)]
    wanted = dict.fromkeys(INPUTS, Needs(moments=True, histogram=True, blocks=(16,), sample=32, gram=True))

    def run(batches, known=None):
        gathering = Gathering(model, wanted, plan.shared_inputs, known)
        with gathering.running():
            for batch in batches:
                model(batch)
        return gathering

    store = StatisticsStore.open(tmp_path, {"weights": "w"})
    kept = run(batches[:stop])
    store.keep_unfinished(Unfinished(wanted, stop, kept.so_far()))
    assert kept.nbytes() > 6 * 32 * 4
    found = run(batches[stop:], store.unfinished(wanted).known).results()
    store.add(found)
    other = StatisticsStore.open(tmp_path / "unbroken", {"weights": "w"})
    other.add(run(batches).results())
    one, two = ({f.name: f.read_bytes() for f in s.directory.glob("*.*")} for s in (store, other))
    assert one == two


def test_before_the_first_batch_and_after_nan_there_is_nothing_to_keep(case, batch):
    model, plan = case
    gathering = Gathering(model, INPUTS, plan.shared_inputs)
    assert gathering.so_far() is None
    with gathering.running():
        model(batch)
        assert gathering.so_far().keys() == INPUTS.keys()
        model(batch.clone().fill_(torch.nan))
        assert gathering.so_far() is None
